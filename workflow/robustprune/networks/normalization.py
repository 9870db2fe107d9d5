"""Normalisation of the input, inside the networks, so that attacks and radii are in units of pixels in [0, 1].

Only networks whose originals normalise do so here. Their constants are those of CIFAR-10 for colour images, whatever
the data set: a fixed scale that the first convolution can undo. Images of one channel are brought to [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

DEFINITION = {"models.normalization": 1}

CONSTANTS = {
    1: ((0.5,), (0.5,)),
    3: ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
}
"""Mean and standard deviation of each channel, by the number of channels."""


class Normalization(nn.Module):
    """Takes the mean of each channel away and divides by its standard deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # Not in the state dict: the constants belong to the architecture, and public checkpoints lack them.
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to the same shape, about zero mean and unit variance."""
        return (images - self.mean) / self.std


def usual_normalization(channels: int) -> Normalization:
    """The constants for images of 1 or 3 channels."""
    return Normalization(*CONSTANTS[channels])
