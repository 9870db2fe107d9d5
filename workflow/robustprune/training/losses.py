"""The losses that training minimises, and what its attacks maximise, each sample by sample."""

import torch
from torch import Tensor
from torch.nn import functional as F

DEFINITION = {"training.losses": 2}


def cross_entropy(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """(N,) float32: (1 - s) times minus the label's log-probability plus s times the mean of minus all of them.

    Args:
        logits: (N, K).
        labels: (N,) int64.
        label_smoothing: s, the share of the label spread over all K classes.
    """
    return F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=label_smoothing)


def kl_divergence(log_natural: Tensor, logits: Tensor) -> Tensor:
    """(N,) float32: KL(natural || softmax of the logits), between log-probabilities, so that no zero makes a NaN.

    Args:
        log_natural: (N, K) float32 log-probabilities.
        logits: (N, K).
    """
    log_probabilities = F.log_softmax(logits.float(), dim=1)
    return F.kl_div(log_probabilities, log_natural, reduction="none", log_target=True).sum(1)


def trades_losses(
    natural: Tensor, adversarial: Tensor, labels: Tensor, *, beta: float, label_smoothing: float
) -> Tensor:
    """Smoothed cross-entropy of the natural logits plus ``beta`` KL(natural || adversarial).

    Gradients flow through both sets of logits (Wang et al. 2023).

    Args:
        natural: (N, K) logits f(x).
        adversarial: (N, K) logits f(x').
        labels: (N,) int64.
        beta: weight of the robust term.
        label_smoothing: share of the label spread over all K classes.

    Returns:
        (N,) float32.
    """
    divergence = kl_divergence(F.log_softmax(natural.float(), dim=1), adversarial)
    return cross_entropy(natural, labels, label_smoothing=label_smoothing) + beta * divergence


def label_objective(logits: Tensor, *, labels: Tensor, towards_label: Tensor) -> Tensor:
    """What an attack on the label maximises: the cross-entropy, or minus it for anti-adversarial samples.

    Args:
        logits: (N, K) f(x').
        labels: (N,) int64.
        towards_label: (N,) bool, true where the radius is negative.

    Returns:
        (N,) float32.
    """
    losses = cross_entropy(logits, labels)
    return torch.where(towards_label, -losses, losses)


def divergence_objective(logits: Tensor, *, log_natural: Tensor, labels: Tensor, towards_label: Tensor) -> Tensor:
    """What TRADES' attack maximises: the KL from the natural prediction, or minus the cross-entropy.

    A sample with a negative radius is moved towards its label (anti-adversarial, PUMA). The KL has its minimum at the
    natural image and cannot lead there, so the cross-entropy is descended instead (papers.md, P3).

    Args:
        logits: (N, K) f(x').
        log_natural: (N, K) detached log-probabilities of f(x).
        labels: (N,) int64.
        towards_label: (N,) bool, true where the radius is negative.

    Returns:
        (N,) float32.
    """
    return torch.where(towards_label, -cross_entropy(logits, labels), kl_divergence(log_natural, logits))
