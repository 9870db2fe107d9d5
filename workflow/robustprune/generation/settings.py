"""Settings of the generator and of drawing images from it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from robustprune.core.settings import Precision, Settings

AUGMENTATION_LABELS = 9  # flips 2, scale 1, rotation 2, anisotropic scale 2, translation 2


class GeneratorSettings(Settings):
    """EDM (Karras et al. 2022): the network and how it is trained."""

    base_channels: int = Field(64, ge=8, multiple_of=8, description="channels of the first resolution")
    channel_multipliers: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 2), min_length=1, description="channels of each resolution, in units of base_channels; halved in between"
    )
    patch: int = Field(
        1,
        ge=1,
        description="side of the squares of pixels that are taken as channels; 1 for none, as EDM; 2 takes less time",
    )
    blocks: int = Field(2, ge=1, description="residual blocks of each resolution")
    attention_resolutions: tuple[int, ...] = Field((), description="side lengths in pixels that get self-attention")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of activations dropped in residual blocks")
    steps: int = Field(gt=0, description="optimiser steps")
    batch_size: int = Field(128, gt=0, description="images in a step")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's learning rate after the ramp")
    ramp_images: int = Field(0, ge=0, description="images over which the learning rate rises linearly from 0")
    schedule: Literal["constant", "linear"] = Field(
        "constant",
        description="of the learning rate after the ramp: constant, as EDM, or linear, falling to 0 by the last step, "
        "which is better for short trainings",
    )
    averaging_half_life_images: float = Field(
        500_000, gt=0, description="half-life of the weight average, in images; at most 5 % of the images seen so far"
    )
    label_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the images of whose class the network is not told; for sampler.guidance"
    )
    flip: bool = Field(False, description="take each image mirrored with probability 1/2, as if it were another image")
    augmentation_probability: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability of each of EDM's augmentations, of which the network is told, so that none shows in "
        "what is drawn; 0 for none (EDM for CIFAR-10: 0.12)",
    )
    precision: Precision = Field("float32", description="of the network's arithmetic; bfloat16 is faster on GPUs")
    seed: int = Field(0, ge=0, description="seed of initialisation, noise and data order")

    @property
    def divisor(self) -> int:
        """The number that both sides of an image must be multiples of."""
        return self.patch << len(self.channel_multipliers) - 1

    def resolutions(self, height: int) -> tuple[int, ...]:
        """The sides in pixels that the network works at for images of a height, the finest first."""
        return tuple(height // self.patch >> level for level in range(len(self.channel_multipliers)))


class SamplerSettings(Settings):
    """EDM's Heun sampler, deterministic or with churn (Karras et al. 2022, Algorithms 1 and 2)."""

    steps: int = Field(18, ge=2, description="noise levels N; the network is evaluated 2 N - 1 times an image")
    sigma_min: float = Field(0.002, gt=0, description="lowest noise level, images scaled to [-1, 1]")
    sigma_max: float = Field(80.0, gt=0, description="highest noise level")
    rho: float = Field(7.0, gt=0, description="how strongly the levels crowd at the low end")
    guidance: float = Field(
        1.0,
        ge=0,
        description="how far the class steers (Ho and Salimans 2022): 1 as the network was trained; above it images "
        "are more typical of their class and less varied. Any but 1 takes twice the time",
    )
    churn: float = Field(0.0, ge=0, description="S_churn: noise put in again, in all steps together; 0: deterministic")
    churn_from: float = Field(0.0, ge=0, description="S_tmin: lowest noise level that is churned")
    churn_to: float | None = Field(None, gt=0, description="S_tmax: highest one; null for all")
    churn_noise: float = Field(1.0, gt=0, description="S_noise: standard deviation of the noise put in")
    precision: Precision = Field("float32", description="of the network's arithmetic; the image's is float64")
    seed: int = Field(0, ge=0, description="seed of the noise; an image depends on it and on its own index only")

    @property
    def evaluations(self) -> int:
        """Number of times that the network looks at an image."""
        return (2 * self.steps - 1) * (1 if self.guidance == 1 else 2)

    @model_validator(mode="after")
    def _levels_in_order(self) -> "SamplerSettings":
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min = {self.sigma_min} should be below sigma_max = {self.sigma_max}")
        if self.churn_to is not None and self.churn_from > self.churn_to:
            raise ValueError(f"churn_from = {self.churn_from} should be at most churn_to = {self.churn_to}")
        return self
