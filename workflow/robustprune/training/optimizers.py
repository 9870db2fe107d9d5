"""The optimiser and its parameter groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from robustprune.training.recipes.base import PLAIN_MOMENTUM

if TYPE_CHECKING:
    from robustprune.training.recipes.base import Recipe
    from robustprune.training.schedules import CyclePoint

DEFINITION = {"training.optimizers": 2}


def build_optimizer(model: nn.Module, settings: Recipe) -> torch.optim.Optimizer:
    """SGD with Nesterov's or plain momentum, or Adam; parameters named ``batchnorm`` have no weight decay."""
    plain = [value for name, value in model.named_parameters() if "batchnorm" in name]
    decayed = [value for name, value in model.named_parameters() if "batchnorm" not in name]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=settings.learning_rate, fused=True)
    nesterov = settings.optimizer == "nesterov"
    sgd = torch.optim.SGD(groups, lr=settings.learning_rate, momentum=PLAIN_MOMENTUM, nesterov=nesterov, fused=True)
    for value in model.parameters():  # torch begins with memory as it is, which a first step that is skipped leaves so
        sgd.state[value]["momentum_buffer"] = torch.zeros_like(value)
    return sgd


def set_cycle(optimizer: torch.optim.Optimizer, point: CyclePoint) -> None:
    """Give every group the cycle's learning rate and, where it is SGD, its momentum."""
    for group in optimizer.param_groups:
        group["lr"] = point.learning_rate
        if "momentum" in group:
            group["momentum"] = point.momentum


def update(optimizer: torch.optim.Optimizer, *, broken: Tensor) -> None:
    """Take the optimiser's step, unless ``broken``: the device decides, and nothing waits for it.

    Args:
        optimizer: as ``build_optimizer`` makes it; its fused step leaves parameters and state alone where told to.
        broken: () bool, on the parameters' device.
    """
    optimizer.found_inf = broken.float()  # type: ignore[attr-defined]  # as torch's GradScaler tells it
    optimizer.step()
