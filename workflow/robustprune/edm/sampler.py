"""EDM's deterministic sampler: Heun's method on the probability flow (Karras et al. 2022, Algorithm 1); facts 6.1."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from robustprune.edm.preconditioning import Network, denoise
from robustprune.randomness import per_sample
from robustprune.settings import SamplerSettings

DEFINITION = 1

Denoiser = Callable[[Tensor, float], Tensor]
"""D: (N, C, H, W) float64 noisy images and their noise level to float64 denoised images."""


def sigmas(settings: SamplerSettings) -> tuple[float, ...]:
    """The noise levels sigma_max ... sigma_min, evenly spaced in sigma^(1/rho), and 0 (equation 5): N + 1 in all."""
    high, low = settings.sigma_max ** (1 / settings.rho), settings.sigma_min ** (1 / settings.rho)
    shares = (i / (settings.steps - 1) for i in range(settings.steps))
    return (*((high + share * (low - high)) ** settings.rho for share in shares), 0.0)


def heun(denoiser: Denoiser, latents: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Solve dx / dsigma = (x - D(x; sigma)) / sigma from the first level to the last.

    Args:
        denoiser: D.
        latents: (N, C, H, W) standard normal draws.
        levels: falling noise levels, the last one 0; the step to 0 is Euler's, for the slope is not defined there.

    Returns:
        (N, C, H, W) float64 images scaled to [-1, 1], not clipped.
    """
    x = latents.double() * levels[0]
    for sigma, target in pairwise(levels):
        slope = (x - denoiser(x, sigma)) / sigma
        euler = x + (target - sigma) * slope
        if target > 0:
            end_slope = (euler - denoiser(euler, target)) / target
            x = x + (target - sigma) * (slope + end_slope) / 2
        else:
            x = euler
    return x


@torch.no_grad()
def draw_images(
    network: Network, ids: Tensor, labels: Tensor, settings: SamplerSettings, image_shape: tuple[int, int, int]
) -> Tensor:
    """Images of the classes asked for; an image depends on the seed, its id and its label only.

    Args:
        network: F, in eval mode.
        ids: (N,) int64 ids, on the CPU.
        labels: (N,) int64 classes, on the network's device.
        settings: noise levels and seed.
        image_shape: channels, height, width.

    Returns:
        (N, C, H, W) uint8 on the network's device.
    """
    latents = per_sample("normal", image_shape, ids, settings.seed, "latent").to(labels.device)
    return to_bytes(heun(partial(_denoise_all, network, labels), latents, sigmas(settings)))


def _denoise_all(network: Network, labels: Tensor, x: Tensor, sigma: float) -> Tensor:
    return denoise(network, x, x.new_full((len(x),), sigma), labels)


def to_bytes(x: Tensor) -> Tensor:
    """Images scaled to [-1, 1] to uint8: pixel p is p / 127.5 - 1 there, and what is beyond black or white is cut."""
    return (x * 127.5 + 128).clip(0, 255).to(torch.uint8)
