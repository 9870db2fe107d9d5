"""The margin that Carlini & Wagner (2017) attack, https://arxiv.org/abs/1608.04644, f_6 of section V.A."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustprune.attacks.checks import check_logits
from robustprune.core.errors import UserError

DEFINITION = {"attacks.margin_loss": 1}


def best_other(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,): the largest logit of a class that is not the label.

    Args:
        logits: (N, K), K >= 2.
        labels: (N,) int64.
    """
    return logits.scatter(1, labels[:, None], -torch.inf).amax(1)


def cw_objective(logits: Tensor, *, labels: Tensor, kappa: float = 0.0) -> Tensor:
    """Return how far the best other class is above the label, at most ``kappa``: what a CW attack makes large.

    At the cap the gradient is 0, so that an attacked image stays where it was first misclassified by ``kappa``.

    Args:
        logits: (N, K).
        labels: (N,) int64.
        kappa: the confidence at which the attack is content, in units of logits.

    Returns:
        (N,), positive where the image is misclassified.
    """
    own = logits.gather(1, labels[:, None]).squeeze(1)
    return (best_other(logits, labels) - own).clamp(max=kappa)


def check_gradient(model: nn.Module, images: Tensor, labels: Tensor, *, origin: str) -> None:
    """Check that a model can be attacked: it gives logits, with a gradient at one of some images.

    Args:
        model: the model.
        images: (N, C, H, W) float32 in [0, 1], a few.
        labels: (N,) int64.
        origin: name of the model in messages.

    Raises:
        UserError: as ``check_logits``, and if the gradient is 0 at every image.
    """
    check_logits(model, images, origin=origin)
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(cw_objective(model(images), labels=labels, kappa=torch.inf).sum(), images)
    if not gradient.any():
        raise UserError(f"{origin} has a gradient of 0 at all of {len(images)} images, so no attack can tell anything")
