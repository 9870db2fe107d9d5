"""A network for 8 x 8 digits that trains in seconds on a CPU: two 3 x 3 convolutions and two linear layers."""

from __future__ import annotations

from torch import nn

from robustprune.networks.architecture import architecture

DEFINITION = {"models.small_cnn": 1}


@architecture("small_cnn", batchnorm=False)
def build(image_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Convolutions of 16 and 32 channels, the second with stride 2; linear layers of 64 and ``classes``."""
    channels, height, width = image_shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * ((height + 1) // 2) * ((width + 1) // 2), 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )
