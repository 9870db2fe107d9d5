"""The exponential moving average of the weights that is scored and evaluated."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

DEFINITION = {"training.averaging": 1}


def averaging_decay(step: int, *, warm_up: float, highest: float) -> float:
    """Share of the old average that stays after ``step`` (1, 2, ...) optimiser steps.

    Zero until ``warm_up`` steps, then (1 + d) / (10 + d) with d the steps since, at most ``highest``.
    """
    since = step - warm_up
    return 0.0 if since < 0 else min(highest, (1 + since) / (10 + since))


class WeightAverage:
    """Averages the parameters of ``model``; buffers (BatchNorm's statistics) are the model's own, not averaged."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._average = {name: value.detach().clone() for name, value in model.named_parameters()}

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move the average towards the model's present parameters."""
        current = [value.detach() for value in self._model.parameters()]
        torch._foreach_lerp_(list(self._average.values()), current, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The model's state dict with averaged parameters."""
        return {**self._model.state_dict(), **self._average}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a state dict of ``state_dict``."""
        for name, value in self._average.items():
            value.copy_(state[name])

    def averaged_model(self) -> nn.Module:
        """A copy of the model with averaged parameters."""
        model = copy.deepcopy(self._model)
        model.load_state_dict(self.state_dict())
        return model
