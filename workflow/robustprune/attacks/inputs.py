"""What an attack is given: images as floats, and a model that can be attacked."""

import numpy as np
import torch
from torch import Tensor, nn

from robustprune.attacks.margin_loss import cw_objective
from robustprune.core.errors import UserError
from robustprune.images.pool import AnyLabels, Pool

DEFINITION = {"attacks.inputs": 1}

CHECKED_IMAGES = 64  # enough of a pool to tell
SUM_TOLERANCE = 1e-5  # of a row's sum from 1, for it to be probabilities (AutoAttack's checks)


def as_inputs(pool: Pool, start: int, stop: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows ``start`` ... ``stop`` - 1 of a pool: (N, C, H, W) float32 in [0, 1] and (N,) int64 labels."""
    return inputs_at(pool, slice(start, stop), device)


def inputs_at(pool: Pool, rows: slice | AnyLabels, device: torch.device) -> tuple[Tensor, Tensor]:
    """Any rows of a pool: (N, C, H, W) float32 in [0, 1] and (N,) int64 labels."""
    images = torch.from_numpy(np.array(pool.images[rows])).to(device)
    labels = torch.from_numpy(pool.labels[rows].astype(np.int64)).to(device)
    return images.to(torch.float32) / 255, labels


def refuse_broken(logits: Tensor, *, origin: str = "the model") -> None:
    """Raise UserError where any of (N, K) logits is not finite; the image would be taken for a very easy one."""
    broken = int((~logits.isfinite()).any(1).sum())
    if broken:
        raise UserError(
            f"{origin} gives logits that are not finite at {broken} of {len(logits)} images; its training diverged, or "
            "its input is damaged"
        )


def check_classifier(model: nn.Module, images: Tensor, labels: Tensor, *, origin: str, attacked: bool = True) -> None:
    """Refuse a model on which attacks and margins would mean nothing.

    Args:
        model: the model.
        images: (N, C, H, W) float32 in [0, 1], a few.
        labels: (N,) int64.
        origin: what the model is called in messages.
        attacked: whether a gradient is needed.

    Raises:
        UserError: when it is in train mode, gives values that are not finite, gives probabilities in place of logits,
            or has a gradient of 0 at every image where one is needed.
    """
    if model.training:
        raise UserError(f"{origin} is in train mode, but should be in eval mode")
    images = images.detach().requires_grad_()
    logits = model(images)
    refuse_broken(logits, origin=origin)
    if _are_probabilities(logits):
        raise UserError(f"{origin} gives probabilities, but should give logits; leave out its softmax")
    if not attacked:
        return
    (gradient,) = torch.autograd.grad(cw_objective(logits, labels=labels, kappa=torch.inf).sum(), images)
    if not gradient.any():
        raise UserError(f"{origin} has a gradient of 0 at all of {len(images)} images, so no attack can tell anything")


def _are_probabilities(logits: Tensor) -> bool:
    return bool((logits >= 0).all() and ((logits.sum(1) - 1).abs() < SUM_TOLERANCE).all())
