"""Settings of training, by recipe."""

from typing import Literal

from pydantic import Field, model_validator

from robustprune.settings.base import Radius, Settings

RecipeName = Literal["trades"]
"""How a model is trained; each is a key of the section ``training``, and an experiment's row names one."""


class Recipe(Settings):
    """What all recipes have: data, optimiser, schedule, averages. The defaults are Wang et al.'s (2023). Facts: 1."""

    recipe: RecipeName = Field(description="the recipe's own name")
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
    def _epoch_schedule_has_a_warm_up(self) -> "Recipe":
        if self.schedule == "onecycle_epoch" and self.epochs <= 40:
            raise ValueError(
                f"schedule = onecycle_epoch needs more than 40 epochs, but epochs = {self.epochs}; use onecycle_step"
            )
        return self


class TradesRecipe(Recipe):
    """TRADES with synthetic data as Wang et al. (2023) train it. Facts: section 1.3."""

    recipe: Literal["trades"] = Field("trades", description="the recipe's own name")
    beta: float = Field(5.0, ge=0, description="TRADES' weight of the robust term")
    attack_steps: int = Field(10, ge=1, description="steps of the training attack")
    step_size: Radius = Field(
        description="step of the training attack at radius epsilon; scaled with a sample's radius"
    )


AnyRecipe = TradesRecipe
"""Any of the recipes, told apart by ``recipe``."""


class Recipes(Settings):
    """The recipes at the preset's scale, by name."""

    trades: TradesRecipe

    def named(self, name: RecipeName) -> AnyRecipe:
        """The recipe of that name."""
        recipe: AnyRecipe = getattr(self, name)
        return recipe
