"""Halving the segment that crosses a decision boundary, so that a margin ends at the boundary and not beyond it."""

from collections.abc import Callable

import torch
from torch import Tensor

DEFINITION = 1


def bisect(images: Tensor, ends: Tensor, crossed: Callable[[Tensor], Tensor], *, steps: int) -> Tensor:
    """Move each end towards its image as far as halving tells that it stays beyond the boundary.

    The answer is always a point that ``crossed`` has called beyond, or the end itself, and lies at most
    |end - image| / 2^steps beyond a point that is not. Where the segment crosses several times, it is one of them.

    Args:
        images: (N, C, H, W) float32, before the boundary.
        ends: (N, C, H, W) float32, beyond it.
        crossed: tells for (N, C, H, W) points which are beyond, (N,) bool.
        steps: number of halvings; 0 gives the ends back.

    Returns:
        (N, C, H, W) float32 on the segments from images to ends.
    """
    near = torch.zeros(len(images), *[1] * (images.ndim - 1), device=images.device)
    far = torch.ones_like(near)
    for _ in range(steps):
        middle = (near + far) / 2
        beyond = crossed(images.lerp(ends, middle)).view_as(middle)
        near, far = torch.where(beyond, near, middle), torch.where(beyond, middle, far)
    return images.lerp(ends, far)
