"""The 4 x 4 convolution with stride 2, with a gradient of the input that is quick on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DEFINITION = {"models.halving": 2}


class HalvingConv2d(nn.Conv2d):
    """``nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)``, up to rounding, with its state dict.

    Attacks need the gradient of the input, for which oneDNN is slow here: for 100 images of MNIST it takes 3.4 ms of
    one core, 18 times the forward pass. As a convolution of its own it takes a third of that.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H / 2, W / 2), sides rounded down."""
        slow = x.device.type == "cpu" and x.requires_grad and torch.is_grad_enabled()
        if not slow or x.shape[2] % 2 or x.shape[3] % 2:
            return super().forward(x)
        out: Tensor = _WithInputGradient.apply(super().forward(x.detach()), x, self.weight.detach())
        return out


class _WithInputGradient(torch.autograd.Function):
    """The output of a convolution of the detached input, to which the gradient of the input is added.

    The gradients of weights and bias stay torch's, which leaves them out where an attack does not ask for them.
    """

    @staticmethod
    def forward(context: Any, out: Tensor, _x: Tensor, weight: Tensor) -> Tensor:
        context.save_for_backward(weight)
        return out.view_as(out)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (weight,) = context.saved_tensors
        return gradient, _input_gradient(gradient, weight.to(gradient.dtype)), None


def _input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """(N, C, 2 h, 2 w): the gradient of the input, from (N, K, h, w) that of the output and (K, C, 4, 4) weights.

    In each direction two pixels of the output see a pixel of the input: by rows 1 and 3 of the weights where its number
    is even, by 0 and 2 where it is odd. So each of the four kinds of pixels is a 2 x 2 convolution with stride 1 of the
    padded gradient. They are computed together, as channels, and put in their places.
    """
    filters, channels, *_ = weight.shape
    taps = weight.view(filters, channels, 2, 2, 2, 2).flip(2, 4)  # the last four: row, odd or even, column, odd or even
    kernel = taps.permute(3, 5, 1, 0, 2, 4).reshape(4 * channels, filters, 2, 2)
    kinds = F.conv2d(gradient, kernel, padding=1)
    count, _, rows, columns = (
        kinds.shape
    )  # h + 1, w + 1: even ones lie in all but the last, odd ones in all but the first
    kinds = kinds.view(count, 2, 2, channels, rows, columns)
    whole = gradient.new_empty(count, channels, 2 * rows - 2, 2 * columns - 2)
    for odd_row in (0, 1):
        for odd_column in (0, 1):
            kind = kinds[:, 1 - odd_row, 1 - odd_column, :, odd_row : rows - 1 + odd_row]
            whole[:, :, odd_row::2, odd_column::2] = kind[..., odd_column : columns - 1 + odd_column]
    return whole
