"""EDM's preconditioning and loss, symbols as in Karras et al. (2022), Table 1 and section 5.

Images y and noisy images x = y + n, n ~ N(0, sigma^2), are scaled to [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from robustprune.networks.precision import arithmetic

if TYPE_CHECKING:
    from robustprune.core.settings import Precision

DEFINITION = {"edm.preconditioning": 1}

SIGMA_DATA = 0.5  # standard deviation of images scaled to [-1, 1]
P_MEAN, P_STD = -1.2, 1.2  # ln(sigma) ~ N(P_mean, P_std^2) in training

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""F: (N, C, H, W) float32 scaled noisy images, (N,) float32 c_noise and (N,) int64 labels to (N, C, H, W) float32."""


class Coefficients(NamedTuple):
    """Factors of an image at noise level sigma and of the network's output."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def coefficients(sigma: Tensor) -> Coefficients:
    """The preconditioning of each noise level (Table 1): the network sees and predicts unit variance."""
    variance = sigma**2 + SIGMA_DATA**2
    return Coefficients(
        c_skip=SIGMA_DATA**2 / variance,
        c_out=sigma * SIGMA_DATA / variance.sqrt(),
        c_in=1 / variance.sqrt(),
        c_noise=sigma.log() / 4,
    )


def denoise(network: Network, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) (equation 7), in the dtype of ``x``.

    Args:
        network: F, which is given float32.
        x: (N, C, H, W) noisy images.
        sigma: (N,) their noise levels, above 0.
        labels: (N,) int64 classes.
    """
    c_skip, c_out, c_in, _ = (coefficient.view(-1, 1, 1, 1) for coefficient in coefficients(sigma))
    output = network((c_in * x).float(), coefficients(sigma).c_noise.float(), labels)
    return c_skip * x + c_out * output.to(x.dtype)


def loss_weight(sigma: Tensor) -> Tensor:
    """lambda(sigma) = 1 / c_out^2 (Table 1): every noise level's loss starts near 1 a pixel."""
    return (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2


def sigma_of(normal: Tensor) -> Tensor:
    """Noise levels for training from standard normal draws."""
    return (P_MEAN + P_STD * normal).exp()


def denoising_losses(network: Network, y: Tensor, labels: Tensor, *, sigma: Tensor, noise: Tensor) -> Tensor:
    """lambda(sigma) |D(y + sigma noise; sigma) - y|^2, summed over pixels, of each image (equation 8): (N,) float32.

    Args:
        network: F.
        y: (N, C, H, W) float32 images scaled to [-1, 1].
        labels: (N,) int64 classes.
        sigma: (N,) float32 noise levels.
        noise: (N, C, H, W) float32 standard normal draws.
    """
    x = y + sigma.view(-1, 1, 1, 1) * noise
    squared_error = (denoise(network, x, sigma, labels) - y).square().flatten(1).sum(dim=1)
    return loss_weight(sigma) * squared_error


def in_precision(network: Network, precision: Precision, device: torch.device) -> Network:
    """The network with its arithmetic in ``precision``; what goes in and comes out of the preconditioning is not."""

    def narrowed(x: Tensor, c_noise: Tensor, labels: Tensor) -> Tensor:
        with arithmetic(precision, device):
            return network(x, c_noise, labels)

    return narrowed
