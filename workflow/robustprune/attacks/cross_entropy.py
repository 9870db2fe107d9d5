"""The cross-entropy at an image, and PGD on it from a start of its own: what losses and dynamics are measured by."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from robustprune.attacks.checks import refuse_broken
from robustprune.attacks.pgd import pgd_from_own_starts

if TYPE_CHECKING:
    from robustprune.core.settings import CrossEntropyAttack, ThreatModel
    from robustprune.networks.architecture import Classifier

DEFINITION = {"attacks.cross_entropy": 1}


@torch.no_grad()
def losses(model: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """(N,) float32: the cross-entropy at each image, nats. Raises UserError where a logit is not finite."""
    logits = model(images).float()
    refuse_broken(logits)
    return F.cross_entropy(logits, labels, reduction="none")


def attack_cross_entropy(
    model: Classifier,
    images: Tensor,
    labels: Tensor,
    ids: Tensor,
    *,
    attack: CrossEntropyAttack,
    threat: ThreatModel,
    seed: int,
    purpose: str,
    clip_start: bool = True,
) -> Tensor:
    """Attack each image to raise its own cross-entropy.

    Args:
        model: gives (N, K) logits, in eval mode.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64.
        ids: (N,) int64 ids of the samples, which seed their starts.
        attack: number and length of the steps.
        threat: norm and largest perturbation.
        seed: the stage's seed.
        purpose: what the starts are for.
        clip_start: whether they are clipped to the pixel range.

    Returns:
        (N, C, H, W) float32 in [0, 1]: the last point.
    """
    return pgd_from_own_starts(
        model,
        images,
        ids,
        threat=threat,
        steps=attack.steps,
        step_size=attack.step * float(threat.epsilon),
        objective=partial(F.cross_entropy, target=labels, reduction="none"),
        seed=seed,
        purpose=purpose,
        clip_start=clip_start,
    )
