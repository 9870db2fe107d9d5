"""The 3 x 3 convolution of TensorFlow's networks in torch (Gowal et al. 2020)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

DEFINITION = {"models.same_convolution": 1}


class SameConv3x3(nn.Conv2d):
    """No bias, stride 1 or 2, padding "SAME": a stride of 2 pads even sides at their end only, odd ones at both."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, channels, 3, stride=stride, padding=1 if stride == 1 else 0, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride), sides rounded up."""
        if self.stride == (2, 2):
            height, width = x.shape[-2:]
            x = F.pad(x, (width % 2, 1, height % 2, 1))  # left, right, top, bottom
        return super().forward(x)
