"""PreActResNet-18 with Swish as in DM-Improves-AT (Wang et al. 2023), after Rebuffi et al. (2021).

Shortcuts are 3 x 3 convolutions of the raw input, stride-2 convolutions are padded as in TensorFlow, and the input is
normalised inside; 12,548,426 parameters at 3 channels and 10 classes. The state dict has the public checkpoints' keys.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.networks.architecture import architecture
from robustprune.networks.normalization import usual_normalization
from robustprune.networks.same_convolution import SameConv3x3

DEFINITION = {"models.preact_resnet18_swish": 1}

STATISTICS_MOMENTUM = 0.01  # of batch normalisation


class SwishBlock(nn.Module):
    """Twice batch normalisation, Swish and a 3 x 3 convolution, and a shortcut around them."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(in_channels, momentum=STATISTICS_MOMENTUM)
        self.conv_2d_1 = SameConv3x3(in_channels, channels, stride)
        self.batchnorm_1 = nn.BatchNorm2d(channels, momentum=STATISTICS_MOMENTUM)
        self.conv_2d_2 = SameConv3x3(channels, channels)
        self.shortcut: SameConv3x3 | None = None
        if stride != 1 or in_channels != channels:
            self.shortcut = SameConv3x3(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride), sides rounded up."""
        out: Tensor = self.conv_2d_1(F.silu(self.batchnorm_0(x)))
        out = self.conv_2d_2(F.silu(self.batchnorm_1(out)))
        return out + (x if self.shortcut is None else self.shortcut(x))


class SwishPreActResNet18(nn.Module):
    """Four groups of two blocks with 64, 128, 256 and 512 channels."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.normalize: nn.Module = usual_normalization(in_channels)
        self.conv_2d = SameConv3x3(in_channels, 64)
        self.layer_0 = _group(64, 64, 1)
        self.layer_1 = _group(64, 128, 2)
        self.layer_2 = _group(128, 256, 2)
        self.layer_3 = _group(256, 512, 2)
        self.batchnorm = nn.BatchNorm2d(512, momentum=STATISTICS_MOMENTUM)
        self.logits = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to (N, classes) logits."""
        x = self.conv_2d(self.normalize(x))  # (N, 64, H, W)
        x = self.layer_3(self.layer_2(self.layer_1(self.layer_0(x))))  # (N, 512, H / 8, W / 8)
        x = F.adaptive_avg_pool2d(F.silu(self.batchnorm(x)), 1).flatten(1)  # (N, 512)
        logits: Tensor = self.logits(x)
        return logits


def _group(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(SwishBlock(in_channels, channels, stride), SwishBlock(channels, channels, 1))


@architecture("preact_resnet18_swish", normalization="own")
def build(image_shape: tuple[int, int, int], classes: int) -> SwishPreActResNet18:
    """PreActResNet-18 with Swish for images of any size."""
    return SwishPreActResNet18(image_shape[0], classes)
