"""One step of adversarial training: attack, loss, update."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from robustprune.attacks.norms import NormGeometry, norm_named
from robustprune.attacks.pgd import pgd
from robustprune.settings import ThreatModel, TradesRecipe
from robustprune.training.losses import attack_objective, trades_loss

DEFINITION = 1

L2_START_SCALE = 0.001  # standard deviation of the training attack's start in L2 (facts 1.3)


@dataclass(frozen=True)
class TradesStep:
    """The TRADES step of Wang et al. (2023) with a signed radius for each sample (PUMA)."""

    settings: TradesRecipe
    threat: ThreatModel

    def loss(self, model: nn.Module, images: Tensor, labels: Tensor, epsilon: Tensor, noise: torch.Generator) -> Tensor:
        """The loss of one batch; the model is in train mode.

        Args:
            model: the network in training.
            images: (N, C, H, W) float32 in [0, 1].
            labels: (N,) int64.
            epsilon: (N,) float32 signed radii.
            noise: source of the attack's starting points, on the CPU.
        """
        natural = model(images)
        log_natural = F.log_softmax(natural.detach().float(), dim=1)
        objective = partial(attack_objective, log_natural=log_natural, labels=labels, towards_label=epsilon < 0)
        radius = epsilon.abs()
        with frozen_statistics(model):
            attacked = pgd(
                model,
                images,
                radius=radius,
                step_size=radius * float(self.settings.step_size / self.threat.epsilon),
                steps=self.settings.attack_steps,
                objective=objective,
                norm=norm_named(self.threat.norm),
                start=_start(norm_named(self.threat.norm), images, radius, noise),
            )
        return trades_loss(
            natural, model(attacked), labels, beta=self.settings.beta, label_smoothing=self.settings.label_smoothing
        )


def _start(norm: NormGeometry, images: Tensor, radius: Tensor, noise: torch.Generator) -> Tensor:
    """(N, C, H, W): uniform in the box for Linf, a tiny Gaussian for L2 (facts 1.3)."""
    if norm.name == "L2":
        draw = torch.randn(images.shape, generator=noise).to(images.device)
        return norm.project(L2_START_SCALE * draw, radius)
    draw = torch.rand(images.shape, generator=noise).mul_(2).sub_(1).to(images.device)
    return draw * radius.view(-1, 1, 1, 1)


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """BatchNorm uses batch statistics but leaves its running ones alone, as the training attack does (facts 1.3)."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def set_statistics_momentum(model: nn.Module, momentum: float) -> None:
    """How far BatchNorm's running statistics move: all the way in the first step, then little (facts 1.3)."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum
