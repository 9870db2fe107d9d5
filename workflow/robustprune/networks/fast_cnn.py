"""The MNIST network of fast_adversarial (Wong et al. 2020) and of Kaufmann et al.

166,406 parameters at 28 x 28 x 1 and 10 classes. The state dict has the keys of the public checkpoints.
"""

from __future__ import annotations

from torch import nn

from robustprune.networks.architecture import architecture
from robustprune.networks.halving import HalvingConv2d

DEFINITION = {"models.fast_cnn": 1}


@architecture("fast_cnn", batchnorm=False)
def build(image_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Two stride-2 convolutions (16, 32 channels, 4 x 4) and two linear layers (100, ``classes``)."""
    channels, height, width = image_shape
    return nn.Sequential(
        HalvingConv2d(channels, 16),
        nn.ReLU(),
        HalvingConv2d(16, 32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )
