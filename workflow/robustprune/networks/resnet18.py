"""ResNet-18 for 32 x 32 images as in DM-Improves-AT (Wang et al. 2023).

First convolution 3 x 3 with stride 1, shortcut 1 x 1 with batch normalisation, no normalisation of the input;
11,173,962 parameters at 10 classes.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.networks.architecture import architecture

DEFINITION = {"models.resnet18": 1}


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; ReLU after the sum."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


class ResNet18(nn.Module):
    """Four groups of two blocks with 64, 128, 256 and 512 channels."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.normalize: nn.Module = nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _group(64, 64, 1)
        self.layer2 = _group(64, 128, 2)
        self.layer3 = _group(128, 256, 2)
        self.layer4 = _group(256, 512, 2)
        self.linear = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to (N, classes) logits."""
        x = F.relu(self.bn1(self.conv1(self.normalize(x))), inplace=True)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        logits: Tensor = self.linear(x)
        return logits


def _group(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(in_channels, channels, stride), BasicBlock(channels, channels, 1))


@architecture("resnet18", normalization="possible")
def build(image_shape: tuple[int, int, int], classes: int) -> ResNet18:
    """ResNet-18 for images of any size."""
    return ResNet18(image_shape[0], classes)
