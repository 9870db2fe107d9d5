"""WideResNet-28-10 with Swish (Wang et al. 2023); 36,479,194 parameters at 3 channels and 10 classes."""

from __future__ import annotations

from robustprune.networks.architecture import architecture
from robustprune.networks.wide_resnet import WideResNet

DEFINITION = {"models.wrn28_10_swish": 1}


@architecture("wrn28_10_swish", normalization="own")
def build(image_shape: tuple[int, int, int], classes: int) -> WideResNet:
    """WideResNet-28-10 for images of any size."""
    return WideResNet(image_shape[0], classes, depth=28, width=10)
