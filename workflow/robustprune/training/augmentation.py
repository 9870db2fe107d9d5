"""Augmentation of a whole batch at once."""

import torch
from torch import Tensor
from torch.nn import functional as F

DEFINITION = 1

PADDING = 4  # pixels of zeros on each side before the crop (facts 1.4)


def crop_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Crop each image at random after zero padding by 4 pixels, and mirror half of them.

    Args:
        images: (N, C, H, W) uint8 or float.
        generator: source of the crops and flips, on the CPU.

    Returns:
        Tensor of the same shape and dtype.
    """
    count, channels, height, width = images.shape
    down = torch.randint(2 * PADDING + 1, (count,), generator=generator)
    right = torch.randint(2 * PADDING + 1, (count,), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    rows = down[:, None] + torch.arange(height)
    columns = right[:, None] + torch.where(mirrored[:, None], torch.arange(width).flip(0), torch.arange(width))
    padded = F.pad(images, (PADDING,) * 4)
    index = (rows * padded.shape[3])[:, :, None] + columns[:, None, :]  # (N, H, W) into a flattened padded image
    index = index.to(images.device).view(count, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, index).view_as(images)
