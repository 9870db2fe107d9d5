"""Signed distances to the decision boundary: a walk over it, and the way back to it on the straight segment.

Either walk, DeepFool's or PUMA's Algorithm 1, runs on the active set, and so does the way back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from robustprune.attacks.checks import refuse_broken
from robustprune.attacks.margin_method import MarginMethod
from robustprune.attacks.norms import NormGeometry, per_pixel
from robustprune.attacks.walk import (
    Crossing,
    Walk,
    gradients_of_input_only,
    in_few_sizes,
    logits_at,
    narrow,
    run_active,
)

if TYPE_CHECKING:
    pass

DEFINITION = {"margins.signed": 1}


@dataclass(frozen=True)
class Margins:
    """Signed margins of a chunk of images.

    Attributes:
        margin: (N,) float32, distance in the norm from the image to the boundary, in units of the pixel range; negative
            for a misclassified image (unless unsigned), infinite with that sign where no boundary was found.
        converged: (N,) bool, whether one was found.
        steps: (N,) int64, steps of the walk.
        prediction: (N,) int64, class of the clean image.
    """

    margin: Tensor
    converged: Tensor
    steps: Tensor
    prediction: Tensor


def signed_margins(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    settings: MarginMethod,
    norm: NormGeometry,
    batch_size: int,
) -> Margins:
    """Measure how far each image is from being classified otherwise.

    A correctly classified image has the distance to the nearest other class. A misclassified one has minus the distance
    to its own class (``negative = targeted``, and always with Algorithm 1; papers.md, P2), minus the distance from
    the class it is taken for (``nearest``), or that distance itself (``unsigned``). An image's margin does not depend
    on its batch mates, up to the rounding of the model's arithmetic, which can move where the way back ends by the
    width it is narrowed to; the same chunk and batch size give the same bits.

    Args:
        model: gives (N, K) logits, in eval mode.
        images: (N, C, H, W) float32 in [0, 1], a chunk: many times the batch size, so that batches are mostly full.
        labels: (N,) int64.
        settings: the method, and how far it goes.
        norm: the norm of the distance.
        batch_size: images at once.

    Raises:
        ValueError: when the model is in train mode.
        UserError: when it gives logits that are not finite.
    """
    if model.training:
        raise ValueError("the model is in train mode, but margins are measured in eval mode")
    network = in_few_sizes(model)
    with gradients_of_input_only(model):
        logits = logits_at(network, images, batch_size=batch_size)
        refuse_broken(logits)
        prediction = logits.argmax(1)
        wrong = prediction != labels
        into = wrong & (settings.negative == "targeted")
        crossing = Crossing(torch.where(into, labels, prediction), into)
        walk = settings.walk(network, images, logits, crossing, norm)
        run_active(len(images), walk.advance, batch_size=batch_size, device=images.device)
        distance = _distances(walk, images, crossing.gap(logits), settings.bisection_steps, norm, batch_size)
    margin = distance.where(~wrong | (settings.negative == "unsigned"), -distance)
    return Margins(margin=margin, converged=margin.isfinite(), steps=walk.steps, prediction=prediction)


def _distances(
    walk: Walk, images: Tensor, near_gaps: Tensor, halvings: int, norm: NormGeometry, batch_size: int
) -> Tensor:
    """(N,): from each image to a point that the model called beyond, on the segment to where its walk ended."""
    found = (walk.gaps < 0).nonzero().squeeze(1)

    def point(rows: Tensor, shares: Tensor) -> Tensor:
        return images[rows].lerp(walk.points[rows], per_pixel(shares, images))

    def gap(positions: Tensor, shares: Tensor) -> Tensor:
        rows = found[positions]
        return walk.crossing[rows].gap(logits_at(walk.model, point(rows, shares)))

    shares = narrow(gap, near_gaps[found], walk.gaps[found], halvings=halvings, batch_size=batch_size)
    distance = torch.full((len(images),), torch.inf, device=images.device)
    for rows, part in zip(torch.split(found, batch_size), torch.split(shares, batch_size), strict=True):
        distance[rows] = norm.size(point(rows, part) - images[rows])
    return distance
