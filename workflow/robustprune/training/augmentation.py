"""Augmentation of a whole batch at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from robustprune.core.randomness import BatchNoise

DEFINITION = {"training.augmentation": 1}

PADDING = 4  # pixels of zeros on each side before the crop


def crop_flip(images: Tensor, noise: BatchNoise) -> Tensor:
    """Crop each image at random after zero padding by 4 pixels, and mirror half of them.

    Args:
        images: (N, C, H, W) uint8 or float.
        noise: the crops and flips, drawn on the device of the images.

    Returns:
        Tensor of the same shape and dtype.
    """
    count, channels, height, width = images.shape
    down, right = noise.integers(2 * PADDING + 1), noise.integers(2 * PADDING + 1)
    mirrored = noise.uniform() < 0
    along = torch.arange(width, device=images.device)
    rows = down[:, None] + torch.arange(height, device=images.device)
    columns = right[:, None] + torch.where(mirrored[:, None], width - 1 - along, along)
    padded = F.pad(images, (PADDING,) * 4)
    index = (rows * padded.shape[3])[:, :, None] + columns[:, None, :]  # (N, H, W) into a flattened padded image
    return padded.flatten(2).gather(2, index.view(count, 1, -1).expand(-1, channels, -1)).view_as(images)
