"""The TRADES loss, and what its inner attack maximises; facts 1.3."""

import torch
from torch import Tensor
from torch.nn import functional as F

DEFINITION = 1


def trades_loss(natural: Tensor, adversarial: Tensor, labels: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """Smoothed cross-entropy of the natural logits plus ``beta`` KL(natural || adversarial), both batch means.

    Gradients flow through both sets of logits (Wang et al. 2023). The KL is taken between log-probabilities in
    float32, so that a probability of zero makes no NaN.

    Args:
        natural: (N, K) logits f(x).
        adversarial: (N, K) logits f(x').
        labels: (N,) int64.
        beta: weight of the robust term.
        label_smoothing: share of the label spread over all K classes.
    """
    cross_entropy = F.cross_entropy(natural.float(), labels, label_smoothing=label_smoothing)
    log_natural = F.log_softmax(natural.float(), dim=1)
    log_adversarial = F.log_softmax(adversarial.float(), dim=1)
    divergence = F.kl_div(log_adversarial, log_natural, reduction="batchmean", log_target=True)
    return cross_entropy + beta * divergence


def attack_objective(logits: Tensor, *, log_natural: Tensor, labels: Tensor, towards_label: Tensor) -> Tensor:
    """What each sample's attack maximises: the KL from the natural prediction, or minus the cross-entropy.

    A sample with a negative radius is moved towards its label (anti-adversarial, PUMA). The KL has its minimum at the
    natural image and cannot lead there, so the cross-entropy is descended instead (facts P3).

    Args:
        logits: (N, K) f(x').
        log_natural: (N, K) detached log-probabilities of f(x).
        labels: (N,) int64.
        towards_label: (N,) bool, true where the radius is negative.

    Returns:
        (N,) float32.
    """
    log_adversarial = F.log_softmax(logits.float(), dim=1)
    divergence = (log_natural.exp() * (log_natural - log_adversarial)).sum(1)
    cross_entropy = F.nll_loss(log_adversarial, labels, reduction="none")
    return torch.where(towards_label, -cross_entropy, divergence)
