"""The losses that training minimises, and what its attacks maximise, each sample by sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from robustprune.attacks.norms import NormGeometry
    from robustprune.core.randomness import BatchNoise
    from robustprune.training.online import OnlinePuma

DEFINITION = {"training.losses": 2, "training.recipes.base": 1}


class BatchLoss(NamedTuple):
    """Loss of a batch, and what is logged of it.

    Attributes:
        losses: (N,) float32, of each sample; their mean is minimised.
        right: (N,) bool, whether the image that was learnt from (attacked, where the recipe attacks) was classified
            rightly.
        easy: (N,) bool, whether online pruning drops it; None where there is none.
    """

    losses: Tensor
    right: Tensor
    easy: Tensor | None = None


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
    """Return what an attack on the label maximises: the cross-entropy, or minus it for anti-adversarial samples.

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
    """Return what TRADES' attack maximises: the KL from the natural prediction, or minus the cross-entropy.

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


def random_start(norm: NormGeometry, images: Tensor, radius: Tensor, noise: BatchNoise) -> Tensor:
    """(N, C, H, W): uniform in the cube for Linf, uniform on the sphere for L2 (which is where most of a ball is)."""
    shape = images.shape[1:]
    draw = noise.normal(*shape) if norm.draw == "normal" else noise.uniform(*shape)
    return norm.random_start(draw, radius)


def batch_loss(losses: Tensor, logits: Tensor, labels: Tensor, easy: Tensor | None = None) -> BatchLoss:
    """The losses, with what the logits of the images learnt from say about accuracy."""
    return BatchLoss(losses, logits.detach().argmax(1) == labels, easy)


def learnt_from(
    model: nn.Module, images: Tensor, attacked: Tensor, labels: Tensor, online: OnlinePuma | None
) -> tuple[Tensor, Tensor | None]:
    """The attacked images, brought back to their margins where those are taken online, and which are too easy."""
    if online is None:
        return attacked, None
    moved = online.moved(model, images, attacked, labels)
    return moved.images, moved.easy


def loss_at(
    model: nn.Module,
    images: Tensor,
    attacked: Tensor,
    labels: Tensor,
    *,
    online: OnlinePuma | None,
    label_smoothing: float,
) -> BatchLoss:
    """The cross-entropy at the attacked images, as ``learnt_from`` has them."""
    attacked, easy = learnt_from(model, images, attacked, labels, online)
    logits = model(attacked)
    return batch_loss(cross_entropy(logits, labels, label_smoothing=label_smoothing), logits, labels, easy)
