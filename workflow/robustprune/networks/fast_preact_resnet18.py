"""The PreActResNet-18 of fast_adversarial (Wong et al. 2020) and of Kaufmann et al. on CIFAR-10.

It differs from Wang et al.'s in two points: shortcuts are convolutions of the raw input, and the input is normalised
(there in the data loader, here inside). The state dict has the keys of its checkpoints; 11,172,170 parameters.
"""

from __future__ import annotations

from robustprune.networks.architecture import architecture
from robustprune.networks.normalization import usual_normalization
from robustprune.networks.preact_resnet18 import PreActResNet18

DEFINITION = {"models.fast_preact_resnet18": 1}


@architecture("fast_preact_resnet18", normalization="own")
def build(image_shape: tuple[int, int, int], classes: int) -> PreActResNet18:
    """PreActResNet-18 for images of any size."""
    normalize = usual_normalization(image_shape[0])
    return PreActResNet18(image_shape, classes, normalize=normalize, raw_shortcut=True)
