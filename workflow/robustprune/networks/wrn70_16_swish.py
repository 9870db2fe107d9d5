"""WideResNet-70-16 with Swish (Wang et al. 2023); 266,796,506 parameters at 3 channels and 10 classes."""

from __future__ import annotations

from robustprune.networks.architecture import architecture
from robustprune.networks.wide_resnet import WideResNet

DEFINITION = {"models.wrn70_16_swish": 1}


@architecture("wrn70_16_swish", normalization="own")
def build(image_shape: tuple[int, int, int], classes: int) -> WideResNet:
    """WideResNet-70-16 for images of any size."""
    return WideResNet(image_shape[0], classes, depth=70, width=16)
