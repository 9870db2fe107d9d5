"""What makes an evaluation doubtful, told beside its numbers as AutoAttack does (Croce & Hein 2020)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.attacks.norms import norm_named
from robustprune.attacks.pgd import Objective
from robustprune.core.sample_noise import per_sample
from robustprune.core.settings import ThreatModel

DEFINITION = {"evaluation.checks": 1}

PASSES = 5
LARGEST_DIFFERENCE = 1e-4  # between logits, each image's brought to length 1 (the package's check_randomized)


def zero_gradients(
    model: nn.Module, images: Tensor, ids: Tensor, *, objective: Objective, threat: ThreatModel, seed: int
) -> Tensor:
    """Where an attack has nothing to go by: no pixel has a gradient at a random start within the threat.

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


@torch.no_grad()
def answers_at_random(model: nn.Module, images: Tensor) -> bool:
    """Whether the logits of the same images differ from one pass to the next, so that attacks chase noise."""
    passes = torch.stack([F.normalize(model(images), dim=1) for _ in range(PASSES)])
    return bool((passes.amax(0) - passes.amin(0)).norm(dim=1).max() > LARGEST_DIFFERENCE)
