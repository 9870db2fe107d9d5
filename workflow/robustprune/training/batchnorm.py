"""How BatchNorm's running statistics move while a model is trained and attacked; facts 1.3, 5.2."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

DEFINITION = 1


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """BatchNorm uses batch statistics but leaves its running ones alone, as TRADES' training attack does."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def set_statistics_momentum(model: nn.Module, momentum: float) -> None:
    """How far each batch moves BatchNorm's running statistics towards its own, 0 ... 1."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum
