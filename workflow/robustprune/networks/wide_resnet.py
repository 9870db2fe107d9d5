"""WideResNet with Swish as in DM-Improves-AT (Wang et al. 2023), after Gowal et al. (2020).

Shortcuts are 1 x 1 convolutions of the activated input where channels change, stride-2 convolutions are padded as in
TensorFlow, and the input is normalised inside. The state dict has the public checkpoints' keys, RobustBench's too.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.networks.normalization import usual_normalization
from robustprune.networks.same_convolution import SameConv3x3

DEFINITION = {"models.wide_resnet": 1}

STATISTICS_MOMENTUM = 0.01  # of batch normalisation


class WideBlock(nn.Module):
    """Twice batch normalisation, Swish and a 3 x 3 convolution, and a shortcut around them."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(in_channels, momentum=STATISTICS_MOMENTUM)
        self.conv_0 = SameConv3x3(in_channels, channels, stride)
        self.batchnorm_1 = nn.BatchNorm2d(channels, momentum=STATISTICS_MOMENTUM)
        self.conv_1 = SameConv3x3(channels, channels)
        self.shortcut: nn.Conv2d | None = None
        if in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride), sides rounded up."""
        activated = F.silu(self.batchnorm_0(x))
        out: Tensor = self.conv_1(F.silu(self.batchnorm_1(self.conv_0(activated))))
        return out + (x if self.shortcut is None else self.shortcut(activated))


class BlockGroup(nn.Module):
    """Blocks in a row, the first of which changes channels and size; a module of its own for the checkpoints' keys."""

    def __init__(self, in_channels: int, channels: int, stride: int, *, blocks: int) -> None:
        super().__init__()
        first = WideBlock(in_channels, channels, stride)
        self.block = nn.Sequential(first, *(WideBlock(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride), sides rounded up."""
        out: Tensor = self.block(x)
        return out


class WideResNet(nn.Module):
    """``depth`` = 6 n + 4 layers in three groups of n blocks with 16, 32 and 64 times ``width`` channels."""

    def __init__(self, in_channels: int, classes: int, *, depth: int, width: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.normalize: nn.Module = usual_normalization(in_channels)
        self.init_conv = SameConv3x3(in_channels, 16)
        self.layer = nn.Sequential(
            BlockGroup(16, 16 * width, 1, blocks=blocks),
            BlockGroup(16 * width, 32 * width, 2, blocks=blocks),
            BlockGroup(32 * width, 64 * width, 2, blocks=blocks),
        )
        self.batchnorm = nn.BatchNorm2d(64 * width, momentum=STATISTICS_MOMENTUM)
        self.logits = nn.Linear(64 * width, classes)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to (N, classes) logits."""
        x = self.layer(self.init_conv(self.normalize(x)))  # (N, 64 width, H / 4, W / 4)
        x = F.adaptive_avg_pool2d(F.silu(self.batchnorm(x)), 1).flatten(1)  # (N, 64 width)
        logits: Tensor = self.logits(x)
        return logits


def _initialise(module: nn.Module) -> None:
    """Convolutions from N(0, 2 / (side^2 channels)), the bias of the last layer 0; the rest as torch has it."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
