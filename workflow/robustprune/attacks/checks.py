"""Refuse models on which attacks, margins and embeddings would mean nothing."""

from torch import Tensor, nn

from robustprune.core.errors import UserError

SUM_TOLERANCE = 1e-5  # of a row's sum from 1, for it to be probabilities (AutoAttack's checks)


def refuse_broken(logits: Tensor, *, origin: str = "the model") -> None:
    """Raise UserError where any of (N, K) logits is not finite; the image would be taken for a very easy one."""
    broken = int((~logits.isfinite()).any(1).sum())
    if broken:
        raise UserError(
            f"{origin} gives logits that are not finite at {broken} of {len(logits)} images; its training diverged, or "
            "its input is damaged"
        )


def check_logits(model: nn.Module, images: Tensor, *, origin: str) -> None:
    """Check that a model gives logits.

    Args:
        model: the model.
        images: (N, C, H, W) float32 in [0, 1], a few.
        origin: name of the model in messages.

    Raises:
        UserError: if it is in train mode, gives values that are not finite, or gives probabilities in place of logits.
    """
    if model.training:
        raise UserError(f"{origin} is in train mode, but should be in eval mode")
    logits = model(images)
    refuse_broken(logits, origin=origin)
    if _are_probabilities(logits):
        raise UserError(f"{origin} gives probabilities, but should give logits; leave out its softmax")


def _are_probabilities(logits: Tensor) -> bool:
    return bool((logits >= 0).all() and ((logits.sum(1) - 1).abs() < SUM_TOLERANCE).all())
