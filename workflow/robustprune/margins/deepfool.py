"""Signed distances to the decision boundary by DeepFool and bisection.

Moosavi-Dezfooli et al. (2016), https://arxiv.org/abs/1511.04599, Algorithm 2 and section 3.3 for Linf. Targets are all
other classes, chosen anew in every step; misclassified images are led back to their class (facts P2).
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from robustprune.attacks.margin_loss import best_other
from robustprune.attacks.norms import NormGeometry
from robustprune.margins.bisection import bisect
from robustprune.settings import DeepFoolSettings

DEFINITION = 1

STEP_FLOOR = 1e-4  # added to every step, as in the authors' code, so that a point on the boundary leaves it


@dataclass(frozen=True)
class Margins:
    """Signed margins of a batch.

    Attributes:
        margin: (N,) float32, distance in the norm from the image to the boundary, in units of the pixel range; negative
            for a misclassified image (unless unsigned), infinite with that sign where no boundary was found.
        converged: (N,) bool, whether one was found.
        steps: (N,) int64, DeepFool's steps.
        prediction: (N,) int64, class of the clean image.
    """

    margin: Tensor
    converged: Tensor
    steps: Tensor
    prediction: Tensor


def signed_margins(
    model: nn.Module, images: Tensor, labels: Tensor, *, settings: DeepFoolSettings, norm: NormGeometry
) -> Margins:
    """Measure how far each image is from being classified otherwise.

    A correctly classified image has the distance to the nearest other class. A misclassified one has minus the distance
    to its own class (``negative = targeted``), minus the distance from the class it is taken for (``nearest``), or that
    distance itself (``unsigned``). An image's margin does not depend on its batch mates, up to the rounding of the
    model's arithmetic.

    Args:
        model: gives (N, K) logits, in eval mode.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64.
        settings: steps, overshoot, halvings, and what a misclassified image gets.
        norm: the norm of the distance.

    Raises:
        ValueError: when the model is in train mode.
    """
    if model.training:
        raise ValueError("the model is in train mode, but margins are measured in eval mode")
    prediction = _predict(model, images)
    wrong = prediction != labels
    led_back = wrong & (settings.negative == "targeted")
    distance, steps = torch.empty(len(images), device=images.device), torch.zeros_like(labels)
    for towards, classes in ((False, prediction), (True, labels)):
        rows = (led_back == towards).nonzero().squeeze(1)
        distance[rows], steps[rows] = _distances(
            model, images[rows], classes[rows], towards=towards, settings=settings, norm=norm
        )
    margin = distance.where(~wrong | (settings.negative == "unsigned"), -distance)
    return Margins(margin=margin, converged=margin.isfinite(), steps=steps, prediction=prediction)


def _distances(
    model: nn.Module, images: Tensor, classes: Tensor, *, towards: bool, settings: DeepFoolSettings, norm: NormGeometry
) -> tuple[Tensor, Tensor]:
    """(N,) distances out of ``classes``, or into them, infinite where not reached; (N,) steps."""
    ends, steps, reached = _walk(model, images, classes, towards=towards, settings=settings, norm=norm)
    rows = reached.nonzero().squeeze(1)
    crossed = partial(_crossed, model, classes=classes[rows], towards=towards)
    points = bisect(images[rows], ends[rows], crossed, steps=settings.bisection_steps)
    distances = torch.full((len(images),), torch.inf, device=images.device)
    distances[rows] = norm.size(points - images[rows]).where(crossed(points), torch.inf)
    return distances, steps


def _walk(
    model: nn.Module, images: Tensor, classes: Tensor, *, towards: bool, settings: DeepFoolSettings, norm: NormGeometry
) -> tuple[Tensor, Tensor, Tensor]:
    """DeepFool: (N, C, H, W) last points, (N,) steps, (N,) whether the boundary is crossed there."""
    points, travelled, steps = images.clone(), torch.zeros_like(images), torch.zeros_like(classes)
    rows = torch.arange(len(images), device=images.device)  # of the images that are still on their way
    for _ in range(settings.max_steps):
        if len(rows) == 0:
            break
        travelled[rows] += _step(model, points[rows], classes[rows], towards=towards, norm=norm)
        points[rows] = (images[rows] + (1 + settings.overshoot) * travelled[rows]).clamp(0, 1)
        steps[rows] += 1
        rows = rows[~_crossed(model, points[rows], classes[rows], towards=towards)]
    reached = torch.ones_like(classes, dtype=torch.bool)
    reached[rows] = False
    return points, steps, reached


def _step(model: nn.Module, points: Tensor, classes: Tensor, *, towards: bool, norm: NormGeometry) -> Tensor:
    """(N, C, H, W): the way to the nearest of the boundaries as they look linearised at the points."""
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        gaps = _gaps(model(points), classes, towards=towards)
        distance, slope = torch.full_like(classes, torch.inf, dtype=points.dtype), torch.zeros_like(points)
        for gap in gaps.unbind(1):
            (gradient,) = torch.autograd.grad(gap.sum(), points, retain_graph=True)
            candidate = gap.detach() / norm.dual_size(gradient)
            nearer = candidate < distance  # never true for a gradient of 0: x / 0 is infinite, 0 / 0 is NaN
            distance = distance.where(~nearer, candidate)
            slope = slope.where(~_per_pixel(nearer, points), gradient)
    length = distance.where(distance.isfinite(), 0) + STEP_FLOOR
    return -_per_pixel(length, points) * norm.steepest(slope)


def _gaps(logits: Tensor, classes: Tensor, *, towards: bool) -> Tensor:
    """(N, J) differences of logits, one of which a sample must bring below 0.

    Out of a class: its lead over each of the K - 1 others. Into a class: the lead of the best other.
    """
    own = logits.gather(1, classes[:, None])
    if towards:
        return best_other(logits, classes)[:, None] - own
    others = (classes[:, None] + torch.arange(1, logits.shape[1], device=logits.device)) % logits.shape[1]
    return own - logits.gather(1, others)


def _crossed(model: nn.Module, points: Tensor, classes: Tensor, *, towards: bool) -> Tensor:
    """(N,) bool: whether the points are out of ``classes``, or in them."""
    return (_predict(model, points) == classes) == towards


@torch.no_grad()
def _predict(model: nn.Module, points: Tensor) -> Tensor:
    """(N,) int64: the class with the largest logit."""
    logits: Tensor = model(points)
    return logits.argmax(1)


def _per_pixel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
