"""The margin that Carlini & Wagner (2017) attack, https://arxiv.org/abs/1608.04644, f_6 of section V.A."""

import torch
from torch import Tensor

DEFINITION = {"attacks.margin_loss": 1}


def best_other(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,): the largest logit of a class that is not the label.

    Args:
        logits: (N, K), K >= 2.
        labels: (N,) int64.
    """
    return logits.scatter(1, labels[:, None], -torch.inf).amax(1)


def cw_objective(logits: Tensor, *, labels: Tensor, kappa: float = 0.0) -> Tensor:
    """How far the best other class is above the label, at most ``kappa``: what a CW attack makes large.

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
