"""Projected gradient ascent on any per-sample objective, with a radius of its own for every sample.

Madry et al. (2018), https://arxiv.org/abs/1706.06083.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustprune.attacks.norms import NormGeometry, norm_named, per_pixel
from robustprune.core.sample_noise import per_sample

if TYPE_CHECKING:
    from robustprune.core.settings import ThreatModel
    from robustprune.networks.architecture import Classifier

DEFINITION = {"attacks.pgd": 2}

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
    clip_start: bool = True,
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
        start: (N, C, H, W) float32, the first perturbation; not projected.
        clip_start: whether the start is clipped to the pixel range.

    Returns:
        (N, C, H, W) float32 in [0, 1], detached: the last point, within the radius up to rounding.
    """
    length = per_pixel(step_size, images)
    attacked = (images + start).clamp(0, 1) if clip_start else images + start
    for _ in range(steps):
        gradient = _gradient(model, attacked, objective)
        # Clipped, then projected: in L2 the order matters, and this is Wang et al.'s.
        moved = (attacked + length * norm.steepest(gradient)).clamp(0, 1)
        attacked = images + norm.project(moved - images, radius)
    return attacked.clamp(0, 1)  # the last sum may have rounded to just outside


def pgd_from_own_starts(
    model: Classifier,
    images: Tensor,
    ids: Tensor,
    *,
    threat: ThreatModel,
    steps: int,
    step_size: float,
    objective: Objective,
    seed: int,
    purpose: str,
    clip_start: bool = True,
) -> Tensor:
    """PGD at the threat's radius, each image from one random start of its own, whatever batch it is in.

    Args:
        model: gives (N, K) logits, in eval mode.
        images: (N, C, H, W) float32 in [0, 1].
        ids: (N,) int64 ids of the samples, which seed their starts.
        threat: norm and largest perturbation.
        steps: number of steps.
        step_size: length of a step in the norm.
        objective: what is made large.
        seed: the stage's seed.
        purpose: what the starts are for.
        clip_start: whether they are clipped to the pixel range.

    Returns:
        (N, C, H, W) float32 in [0, 1]: the last point.
    """
    norm = norm_named(threat.norm)
    radius = torch.full((len(images),), float(threat.epsilon), device=images.device)
    draw = per_sample(norm.draw, tuple(images.shape[1:]), ids, seed, purpose).to(images.device)
    return pgd(
        model,
        images,
        radius=radius,
        step_size=torch.full_like(radius, step_size),
        steps=steps,
        objective=objective,
        norm=norm,
        start=norm.random_start(draw, radius),
        clip_start=clip_start,
    )


def _gradient(model: Classifier, points: Tensor, objective: Objective) -> Tensor:
    """(N, C, H, W): the gradient of the summed objective with respect to the points alone."""
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(model(points)).sum(), points)
    return gradient
