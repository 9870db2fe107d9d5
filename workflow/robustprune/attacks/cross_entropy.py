"""PGD on the cross-entropy, one start of each image's own: what training dynamics and losses are measured under."""

from functools import partial

from torch import Tensor
from torch.nn import functional as F

from robustprune.attacks.pgd import pgd_from_own_starts
from robustprune.models.registry import Classifier
from robustprune.settings import CrossEntropyAttack, ThreatModel

DEFINITION = 1


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
