"""Projected gradient ascent on any per-sample objective, with a radius of its own for every sample.

Madry et al. (2018), https://arxiv.org/abs/1706.06083.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from robustprune.attacks.norms import NormGeometry
from robustprune.models.registry import Classifier

DEFINITION = 1

Objective = Callable[[Tensor], Tensor]
"""(N, K) logits to the (N,) values that the attack makes large."""


def pgd(
    model: Classifier,
    images: Tensor,
    *,
    radius: Tensor,
    step_size: Tensor,
    steps: int,
    objective: Objective,
    norm: NormGeometry,
    start: Tensor,
) -> Tensor:
    """Climb ``objective(model(image))`` for every image on its own, within its radius and the pixel range.

    The objective is summed over the batch, so that an image's steps do not depend on its batch mates (as long as the
    model's logits do not). The model's mode and the gradients of its parameters are left alone, and nothing waits for
    the GPU.

    Args:
        model: gives logits for images in [0, 1].
        images: (N, C, H, W) float32 in [0, 1].
        radius: (N,) float32 >= 0, largest perturbation in units of the pixel range.
        step_size: (N,) float32, length of a step in the norm.
        steps: number of steps.
        objective: what is made large.
        norm: the norm of radius and steps.
        start: (N, C, H, W) float32, the first perturbation; clipped to the pixel range, not projected.

    Returns:
        (N, C, H, W) float32 in [0, 1], detached: the last point, within the radius up to rounding.
    """
    step_size = step_size.view(-1, *[1] * (images.ndim - 1))
    attacked = (images + start).clamp(0, 1)
    for _ in range(steps):
        gradient = _gradient(model, attacked, objective)
        delta = attacked + step_size * norm.steepest(gradient) - images
        attacked = (images + norm.project(delta, radius)).clamp(0, 1)
    return attacked


def _gradient(model: Classifier, points: Tensor, objective: Objective) -> Tensor:
    """(N, C, H, W): the gradient of the summed objective with respect to the points alone."""
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(model(points)).sum(), points)
    return gradient
