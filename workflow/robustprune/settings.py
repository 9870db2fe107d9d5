"""Every setting that decides a number: its type, bounds, unit and meaning.

The classes here are the sections of ``config.yaml`` (see ``config``) and, unchanged, parts of the stage specs (see
``specs``), so that a setting is described once and hashed as it was written.
"""

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator


class Settings(BaseModel):
    """A closed, immutable group of settings: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _parse_fraction(value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Fraction)):
        raise ValueError("should be a number or a fraction such as 8/255")  # noqa: TRY004  # for pydantic
    try:
        return Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        raise ValueError("should be a number or a fraction such as 8/255") from None


Radius = Annotated[
    Fraction,
    BeforeValidator(_parse_fraction),
    PlainSerializer(str, return_type=str),
    Field(ge=0, description="a distance between images with pixels in [0, 1]"),
]
"""A distance in units of the pixel range [0, 1], kept exactly: ``8/255`` stays ``8/255``."""

Norm = Literal["Linf", "L2"]

Strategy = Literal["none", "random", "puma"]
"""Which images are dropped; the functions are in ``pruning.strategies``."""

Architecture = Literal["small_cnn", "fast_cnn", "resnet18"]
"""The networks; each is a module of ``models``."""

RadiusRule = Literal["constant", "margin"]
"""With what radius each image is attacked; the functions are in ``pruning.radii``."""


class ThreatModel(Settings):
    """What the adversary may do."""

    norm: Norm = Field("Linf", description="norm in which the perturbation is bounded")
    epsilon: Radius = Field(gt=0, description="largest perturbation, as a fraction of the pixel range, e.g. 8/255")


class GeneratorSettings(Settings):
    """EDM (Karras et al. 2022): the network and how it is trained. Facts: section 6.1."""

    base_channels: int = Field(64, ge=8, multiple_of=8, description="channels of the first resolution")
    channel_multipliers: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 2), min_length=1, description="channels of each resolution, in units of base_channels; halved in between"
    )
    blocks: int = Field(2, ge=1, description="residual blocks of each resolution")
    attention_resolutions: tuple[int, ...] = Field((), description="side lengths in pixels that get self-attention")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of activations dropped in residual blocks")
    steps: int = Field(gt=0, description="optimiser steps")
    batch_size: int = Field(128, gt=0, description="images in a step")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's learning rate after the ramp")
    ramp_images: int = Field(0, ge=0, description="images over which the learning rate rises linearly from 0")
    averaging_half_life_images: float = Field(
        500_000, gt=0, description="half-life of the weight average, in images; at most 5 % of the images seen so far"
    )
    flip: bool = Field(False, description="show each image mirrored with probability 1/2")
    seed: int = Field(0, ge=0, description="seed of initialisation, noise and data order")


class SamplerSettings(Settings):
    """The deterministic Heun sampler of EDM (Karras et al. 2022, Algorithm 1). Facts: section 6.1."""

    steps: int = Field(18, ge=2, description="noise levels N; the network is evaluated 2 N - 1 times an image")
    sigma_min: float = Field(0.002, gt=0, description="lowest noise level, images scaled to [-1, 1]")
    sigma_max: float = Field(80.0, gt=0, description="highest noise level")
    rho: float = Field(7.0, gt=0, description="how strongly the levels crowd at the low end")
    seed: int = Field(0, ge=0, description="seed of the latents; an image depends on it and on its own index only")

    @model_validator(mode="after")
    def _levels_in_order(self) -> "SamplerSettings":
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min = {self.sigma_min} should be below sigma_max = {self.sigma_max}")
        return self


class TrainingSettings(Settings):
    """TRADES with synthetic data as Wang et al. (2023) train it. Facts: section 1."""

    epochs: int = Field(gt=0, description="epochs")
    epoch_images: int = Field(
        gt=0, description="images that make an epoch (Wang et al.: 50000, whatever the pool holds)"
    )
    batch_size: int = Field(512, ge=2, description="images in a step, real and synthetic together")
    synthetic_fraction: float = Field(
        0.7, ge=0, lt=1, description="share of synthetic images in a batch (rounded down)"
    )
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="sgd is Nesterov's, with momentum")
    learning_rate: float = Field(0.2, gt=0, description="learning rate at its peak")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay of every parameter not named batchnorm")
    schedule: Literal["onecycle_epoch", "onecycle_step"] = Field(
        "onecycle_step",
        description="one cycle moved on every epoch (Wang et al.; needs over 40 epochs) or every step (short runs)",
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share of the label spread over all classes")
    beta: float = Field(5.0, ge=0, description="TRADES' weight of the robust term")
    attack_steps: int = Field(10, ge=1, description="steps of the training attack")
    step_size: Radius = Field(
        description="step of the training attack at radius epsilon; scaled with a sample's radius"
    )
    averaging_decay: float = Field(0.995, ge=0, lt=1, description="decay of the weight average (Wang et al.: tau)")
    averaging_warmup: float = Field(0.025, ge=0, le=1, description="share of the steps before averaging starts")
    statistics_momentum: float = Field(
        0.01, gt=0, le=1, description="of BatchNorm's running statistics; runs of a few hundred steps need 0.1"
    )
    augmentation: Literal["none", "crop_flip"] = Field(
        "none", description="crop_flip: random crop after zero padding by 4 pixels, mirrored with probability 1/2"
    )
    validation_images: int = Field(0, ge=0, description="first images of the real training pool kept out of training")

    @property
    def synthetic_in_batch(self) -> int:
        """Number of synthetic images in a batch: 358 of 512 at 0.7."""
        return int(self.batch_size * self.synthetic_fraction)

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimiser steps in an epoch."""
        return -(-self.epoch_images // self.batch_size)

    @property
    def steps(self) -> int:
        """Number of optimiser steps in the whole training."""
        return self.epochs * self.steps_per_epoch

    @model_validator(mode="after")
    def _epoch_schedule_has_a_warm_up(self) -> "TrainingSettings":
        if self.schedule == "onecycle_epoch" and self.epochs <= 40:
            raise ValueError(
                f"schedule = onecycle_epoch needs more than 40 epochs, but epochs = {self.epochs}; use onecycle_step"
            )
        return self


class DeepFoolSettings(Settings):
    """DeepFool with bisection to the boundary (Moosavi-Dezfooli et al. 2016). Facts: section 3."""

    max_steps: int = Field(50, ge=1, description="linearisation steps before a sample is given up")
    overshoot: float = Field(0.02, ge=0, description="share by which a step goes beyond the linearised boundary")
    bisection_steps: int = Field(10, ge=0, description="halvings of the segment that crosses the boundary")
    negative: Literal["targeted", "nearest", "unsigned"] = Field(
        "targeted",
        description="margin of a misclassified image: targeted, minus the distance to its own class; nearest, minus "
        "the distance from the predicted class; unsigned, that distance itself",
    )


class PruningSettings(Settings):
    """How much is dropped, where a table's row does not say."""

    ratio: float = Field(0.2, ge=0, lt=1, description="share of the training images dropped")


class EvaluationSettings(Settings):
    """The attacks on a trained model, and on how many test images. Facts: sections 4 and 7."""

    images: int | None = Field(None, gt=0, description="first test images used; null for all")
    pgd_steps: int = Field(40, ge=1, description="steps of PGD on the CW margin")
    step_size: Radius = Field(description="step of PGD")
    autoattack_images: int | None = Field(
        None, gt=0, description="first test images attacked by AutoAttack; null for all"
    )
    seed: int = Field(0, ge=0, description="seed of the attacks")
