"""What makes an evaluation doubtful, told beside its numbers as AutoAttack does (Croce & Hein 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from robustprune.attacks.norms import norm_named
from robustprune.core.sample_noise import per_sample

if TYPE_CHECKING:
    from robustprune.attacks.pgd import Objective
    from robustprune.core.settings import ThreatModel

DEFINITION = {"evaluation.checks": 1}


def zero_gradients(
    model: nn.Module, images: Tensor, ids: Tensor, *, objective: Objective, threat: ThreatModel, seed: int
) -> Tensor:
    """Return where an attack has nothing to go by: no pixel has a gradient at a random start within the threat.

    Args:
        model: gives (N, K) logits, in eval mode.
        images: (N, C, H, W) float32 in [0, 1].
        ids: (N,) int64 ids of the samples, which seed their starts.
        objective: what the attack makes large.
        threat: norm and largest perturbation.
        seed: the stage's seed.

    Returns:
        (N,) bool.
    """
    norm = norm_named(threat.norm)
    radius = torch.full((len(images),), float(threat.epsilon), device=images.device)
    draw = per_sample(norm.draw, tuple(images.shape[1:]), ids, seed, "pgd start").to(images.device)
    start = (images + norm.random_start(draw, radius)).clamp(0, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(objective(model(start)).sum(), start)
    return ~gradient.flatten(1).any(1)
