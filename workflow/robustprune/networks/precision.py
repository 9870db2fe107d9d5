"""The arithmetic of a network: float32, or bfloat16 by torch's autocast, with weights in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from robustprune.core.settings import Precision

DEFINITION = {"precision": 1}


def arithmetic(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which a network on this device is called."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def memory_format(network: nn.Module, precision: Precision, device: torch.device) -> torch.memory_format:
    """The faster order of a network's tensors: channels last for bfloat16 on GPUs, and with BatchNorm on CPUs."""
    if device.type != "cpu":
        return torch.channels_last if precision == "bfloat16" else torch.preserve_format
    return torch.channels_last if has_batchnorm(network) else torch.preserve_format


def has_batchnorm(model: nn.Module) -> bool:
    """Return True if an image's logits depend on the others of its batch while the model is trained."""
    return any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
