"""EDM's sampler: Heun's method on the probability flow, with churn or without (Karras et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustprune.core.sample_noise import per_sample
from robustprune.generation.network import NO_CLASS
from robustprune.generation.preconditioning import Network, denoise, in_precision

if TYPE_CHECKING:
    from robustprune.generation.settings import SamplerSettings

DEFINITION = {"edm.sampler": 1}

MOST_CHURN = math.sqrt(2) - 1  # of a step, in units of its noise level: the variance at most doubles

Denoiser = Callable[[Tensor, float], Tensor]
"""D: (N, C, H, W) float64 noisy images and their noise level to float64 denoised images."""

Churn = Callable[[Tensor, float, int], tuple[Tensor, float]]
"""Images, their noise level and the number of the step to noisier images and the level they are at."""


def sigmas(settings: SamplerSettings) -> tuple[float, ...]:
    """The noise levels sigma_max ... sigma_min, evenly spaced in sigma^(1/rho), and 0 (equation 5): N + 1 in all."""
    high, low = settings.sigma_max ** (1 / settings.rho), settings.sigma_min ** (1 / settings.rho)
    shares = (i / (settings.steps - 1) for i in range(settings.steps))
    return (*((high + share * (low - high)) ** settings.rho for share in shares), 0.0)


def heun(denoiser: Denoiser, latents: Tensor, levels: tuple[float, ...], churn: Churn | None = None) -> Tensor:
    """Solve dx / dsigma = (x - D(x; sigma)) / sigma from the first level to the last (Algorithms 1 and 2).

    Args:
        denoiser: D.
        latents: (N, C, H, W) standard normal draws.
        levels: falling noise levels, the last one 0; the step to 0 is Euler's, for the slope is not defined there.
        churn: puts noise in at the beginning of each step; None for the deterministic sampler.

    Returns:
        (N, C, H, W) float64 images scaled to [-1, 1], not clipped.
    """
    x = latents.double() * levels[0]
    for step, (sigma, target) in enumerate(pairwise(levels)):
        if churn is not None:
            x, sigma = churn(x, sigma, step)
        slope = (x - denoiser(x, sigma)) / sigma
        euler = x + (target - sigma) * slope
        if target > 0:
            end_slope = (euler - denoiser(euler, target)) / target
            x = x + (target - sigma) * (slope + end_slope) / 2
        else:
            x = euler
    return x


def churned_level(sigma: float, settings: SamplerSettings) -> float:
    """The noise level that a step from ``sigma`` begins at (Algorithm 2, lines 4 and 6)."""
    highest = math.inf if settings.churn_to is None else settings.churn_to
    churned = settings.churn_from <= sigma <= highest
    return sigma * (1 + min(settings.churn / settings.steps, MOST_CHURN)) if churned else sigma


def make_churn(ids: Tensor, settings: SamplerSettings) -> Churn | None:
    """Churn by noise that depends on the seed, the step and the image's id; None where there is none."""
    if settings.churn == 0:
        return None

    def churn(x: Tensor, sigma: float, step: int) -> tuple[Tensor, float]:
        level = churned_level(sigma, settings)
        if level == sigma:
            return x, sigma
        noise = per_sample("normal", tuple(x.shape[1:]), ids, settings.seed, f"churn {step}").to(x.device)
        return x + math.sqrt(level**2 - sigma**2) * settings.churn_noise * noise, level

    return churn


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
    narrowed = in_precision(network, settings.precision, labels.device)
    denoiser: Denoiser = partial(_denoise_all, narrowed, labels)
    if settings.guidance != 1:
        untold = partial(_denoise_all, narrowed, torch.full_like(labels, NO_CLASS))
        denoiser = partial(_guided, denoiser, untold, guidance=settings.guidance)
    return to_bytes(heun(denoiser, latents, sigmas(settings), make_churn(ids, settings)))


def _denoise_all(network: Network, labels: Tensor, x: Tensor, sigma: float) -> Tensor:
    return denoise(network, x, x.new_full((len(x),), sigma), labels)


def _guided(told: Denoiser, untold: Denoiser, x: Tensor, sigma: float, *, guidance: float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022), of denoised images: as far as the class moves them, and on."""
    return torch.lerp(untold(x, sigma), told(x, sigma), guidance)


def to_bytes(x: Tensor) -> Tensor:
    """Images scaled to [-1, 1] to uint8: pixel p is p / 127.5 - 1 there, and what is beyond black or white is cut."""
    return (x * 127.5 + 128).clip(0, 255).to(torch.uint8)
