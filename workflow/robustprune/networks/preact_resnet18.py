"""PreActResNet-18 (He et al. 2016b) as in DM-Improves-AT (Wang et al. 2023).

Shortcuts are 1 x 1 convolutions of the activated input, and the input is not normalised; 11,172,170 parameters for
32 x 32 x 3 images and 10 classes.

Images with sides of 128 pixels or more get ImageNet's stem (He et al. 2016a), a 7 x 7 convolution with stride 2 and a
3 x 3 maximum with stride 2, so that 224 x 224 images reach the blocks as 56 x 56. PUMA trains a PreActResNet-18 on such
images and does not print its stem (Appendix C); with the stem of small images a step would cost 16 times as much.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.networks.architecture import architecture

DEFINITION = {"models.preact_resnet18": 1}

LARGE_SIDE = 128  # pixels; Wang et al. keep the stem of small images for the 64 x 64 of Tiny-ImageNet


class PreActBlock(nn.Module):
    """Twice batch normalisation, ReLU and a 3 x 3 convolution, and a shortcut around them.

    ``raw_shortcut``: whether the shortcut's convolution, where there is one, sees the block's input as it is
    (Wong et al. 2020) or after the first ReLU.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, *, raw_shortcut: bool) -> None:
        super().__init__()
        self.raw_shortcut = raw_shortcut
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride), sides rounded up."""
        activated = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(x if self.raw_shortcut else activated)
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(activated)), inplace=True))
        out += shortcut
        return out


class PreActResNet18(nn.Module):
    """Four groups of two blocks with 64, 128, 256 and 512 channels."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        normalize: nn.Module | None = None,
        raw_shortcut: bool = False,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        large = min(height, width) >= LARGE_SIDE
        self.normalize: nn.Module = normalize or nn.Identity()
        self.conv1 = nn.Conv2d(
            channels, 64, 7 if large else 3, stride=2 if large else 1, padding=3 if large else 1, bias=False
        )
        # No BN or ReLU before the maximum: the first block begins with both, and ReLU and maximum commute.
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if large else nn.Identity()
        self.layer1 = _group(64, 64, 1, raw_shortcut=raw_shortcut)
        self.layer2 = _group(64, 128, 2, raw_shortcut=raw_shortcut)
        self.layer3 = _group(128, 256, 2, raw_shortcut=raw_shortcut)
        self.layer4 = _group(256, 512, 2, raw_shortcut=raw_shortcut)
        self.bn = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to (N, classes) logits."""
        x = self.pool(self.conv1(self.normalize(x)))  # (N, 64, H, W); a quarter of each side where images are large
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (N, 512, H / 8, W / 8) or (N, 512, H / 32, W / 32)
        x = F.adaptive_avg_pool2d(F.relu(self.bn(x)), 1).flatten(1)  # (N, 512)
        logits: Tensor = self.linear(x)
        return logits


def _group(in_channels: int, channels: int, stride: int, *, raw_shortcut: bool) -> nn.Sequential:
    return nn.Sequential(
        PreActBlock(in_channels, channels, stride, raw_shortcut=raw_shortcut),
        PreActBlock(channels, channels, 1, raw_shortcut=raw_shortcut),
    )


@architecture("preact_resnet18", normalization="possible")
def build(image_shape: tuple[int, int, int], classes: int) -> PreActResNet18:
    """PreActResNet-18 for images of any size."""
    return PreActResNet18(image_shape, classes)
