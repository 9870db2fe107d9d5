"""Recipes: how a model is trained, one class per recipe in a file of this folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar

from pydantic import Field, model_validator

from robustprune.core.declarations import Declarations, Named, OneOf
from robustprune.core.settings import Precision, Radius, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustprune.core.randomness import BatchNoise
    from robustprune.core.settings import ThreatModel
    from robustprune.training.losses import BatchLoss
    from robustprune.training.online import OnlinePuma

PLAIN_MOMENTUM = 0.9  # of SGD, where the schedule does not move it
RECIPES: Declarations[type[Recipe]] = Declarations("recipe", "robustprune.training.recipes")
RecipeName = Annotated[str, Named(RECIPES)]
"""How a model is trained; each is a key of the section ``training``, and an experiment's row names one."""

Schedule = Literal["onecycle_epoch", "onecycle_step", "cyclic", "piecewise_linear"]
"""Learning rate and momentum over the training; the functions are in ``training.schedules``."""

AnyRecipeClass = TypeVar("AnyRecipeClass", bound="type[Recipe]")


def recipe(name: str) -> Callable[[AnyRecipeClass], AnyRecipeClass]:
    """Declare a recipe: its settings, and how it attacks and what it loses."""

    def declare(recipe_class: AnyRecipeClass) -> AnyRecipeClass:
        RECIPES.declare(name, recipe_class)
        return recipe_class

    return declare


class Recipe(Settings, ABC):
    """Settings of all recipes: data, optimiser, schedule, averages. The defaults are Wang et al.'s (2023)."""

    attacks: ClassVar[bool] = False  # True if it trains, and so is validated, under attack
    recipe: str = Field(description="the recipe's own name")
    epochs: int = Field(gt=0, description="epochs")
    epoch_images: int | None = Field(
        gt=0,
        description="images that make an epoch, in full batches (Wang et al.: 50000, whatever the pool holds); null "
        "for one pass over the real images kept, whose last batch is smaller",
    )
    permutation: Literal["epoch", "training"] = Field(
        "epoch",
        description="how long a permutation of the real images is followed: every epoch begins a new one (Wang et "
        "al.), or goes on where the one before stopped (PUMA: 107 epochs of 50000 are one pass over 5.35 million)",
    )
    batch_size: int = Field(512, ge=2, description="images in a step, real and synthetic together")
    synthetic_fraction: float = Field(
        0.7, ge=0, lt=1, description="share of synthetic images in a batch (rounded down)"
    )
    optimizer: Literal["nesterov", "sgd", "adam"] = Field(
        "nesterov", description="nesterov and sgd (plain) have momentum"
    )
    learning_rate: float = Field(0.2, gt=0, description="learning rate at its peak")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay of every parameter not named batchnorm")
    schedule: Schedule = Field(
        "onecycle_step",
        description="onecycle_epoch, onecycle_step: one cosine cycle moved on every epoch (Wang et al.; needs over 40 "
        "epochs) or every step (short runs); cyclic: up to the middle and down again, every step; piecewise_linear: "
        "up to two fifths of the epochs and down to 0, every step",
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share of the label spread over all classes")
    averaging_decay: float = Field(
        0.995, ge=0, lt=1, description="decay of the weight average (Wang et al.: tau); 0 for no averaging"
    )
    averaging_warmup: float = Field(0.025, ge=0, le=1, description="share of the steps before averaging starts")
    statistics_momentum: float = Field(
        0.01, gt=0, le=1, description="of BatchNorm's running statistics; runs of a few hundred steps need 0.1"
    )
    statistics_from_first_batch: bool = Field(
        True, description="whether BatchNorm's running statistics begin as those of the first batch, not as 0 and 1"
    )
    batchnorm_shares: int = Field(
        1,
        ge=1,
        description="shares of a batch that BatchNorm takes statistics of, each on its own: 1 for the whole batch; the "
        "unsynchronised 4 GPUs of Wang et al. are 4",
    )
    augmentation: Literal["none", "crop_flip"] = Field(
        "none", description="crop_flip: random crop after zero padding by 4 pixels, mirrored with probability 1/2"
    )
    precision: Precision = Field(
        "float32",
        description="of the network's arithmetic; bfloat16 (weights, loss and attack stay in float32) is for GPUs "
        "and the CPUs that are faster at it",
    )
    validation_images: int = Field(0, ge=0, description="first images of the real training pool to validate on")
    validation_held_out: bool = Field(True, description="whether they are kept out of training")
    validate_every: int = Field(
        1, ge=0, description="epochs from one validation of the averaged weights to the next, and at the end; 0: never"
    )

    @property
    def held_out_images(self) -> int:
        """First images of the real training pool that are never learnt from."""
        return self.validation_images if self.validation_held_out else 0

    @property
    def needed_images(self) -> int:
        """The fewest images that the real training pool can have: those to validate on, and one to learn from."""
        return self.validation_images + (1 if self.validation_held_out else 0)

    @property
    def validates(self) -> bool:
        """True if there is a validation, and so a best epoch."""
        return self.validation_images > 0 and self.validate_every > 0

    def synthetic_among(self, images: int) -> int:
        """Number of synthetic images in a batch of so many: 358 of 512 at 0.7."""
        return int(images * self.synthetic_fraction)

    @property
    def synthetic_in_batch(self) -> int:
        """Number of synthetic images in a full batch."""
        return self.synthetic_among(self.batch_size)

    def steps_per_epoch(self, real_images: int) -> int:
        """Number of optimiser steps in an epoch, where so many real images are kept."""
        return -(-(self.epoch_images or real_images) // self.batch_size)

    @model_validator(mode="after")
    def _epochs_are_parts_of_a_pass(self) -> Recipe:
        if self.permutation == "training" and self.epoch_images is None:
            raise ValueError("permutation = training needs epoch_images, as without it an epoch is a whole pass")
        return self

    @model_validator(mode="after")
    def _epoch_schedule_has_a_warm_up(self) -> Recipe:
        if self.schedule == "onecycle_epoch" and self.epochs <= 40:
            raise ValueError(
                f"schedule = onecycle_epoch needs more than 40 epochs, but epochs = {self.epochs}; use onecycle_step"
            )
        return self

    @property
    def gradients_of_image(self) -> int:
        """Gradients of a batch's images that a step takes."""
        return 0

    @property
    def updates_of_image(self) -> int:
        """Times that a step's loss looks at each image, with a gradient of the weights."""
        return 1

    @abstractmethod
    def losses(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        epsilon: Tensor,
        noise: BatchNoise,
        *,
        threat: ThreatModel | None,
        online: OnlinePuma | None,
    ) -> BatchLoss:
        """Return the loss of each sample of a batch, with a graph to the model's parameters.

        Args:
            model: the network in training, in train mode.
            images: (N, C, H, W) float32 in [0, 1].
            labels: (N,) int64.
            epsilon: (N,) float32 signed radii in the threat's norm; negative ones are attacked towards the label.
            noise: the attack's starting points, drawn on the device of the images.
            threat: the adversary, where the recipe attacks.
            online: how images are brought back to their margins, where that is asked for.
        """


class AdversarialRecipe(Recipe):
    """Settings of recipes that train, and are validated, under attack: by PGD on the CW margin (Wang et al.)."""

    attacks = True
    validation_steps: int = Field(40, ge=1, description="steps of the validation's attack")
    validation_step: float = Field(
        0.25, gt=0, description="its step in units of epsilon (Wang et al.: 2/255 of 8/255, 32/255 of 128/255 in L2)"
    )

    @property
    def gradients_of_image(self) -> int:
        """Gradients of a batch's images that a step takes."""
        return 1


class MultiStepRecipe(AdversarialRecipe):
    """Settings of recipes that attack by projected gradient ascent."""

    attack_steps: int = Field(10, ge=1, description="steps of the training attack")
    step_size: Radius = Field(
        gt=0, description="step of the training attack at radius epsilon; scaled with a sample's radius"
    )

    @property
    def gradients_of_image(self) -> int:
        """Gradients of a batch's images that a step takes."""
        return self.attack_steps


def problem_of_processes(recipe: Recipe, processes: int) -> str | None:
    """Return why so many processes cannot train by a recipe together; None where they can."""
    shares = recipe.batchnorm_shares
    if processes == 1 or shares in (1, processes):
        return None
    return (
        f"execution.processes = {processes}, but training.{recipe.recipe}.batchnorm_shares = {shares}: several "
        f"processes need as many shares, or 1; so use 1 or {shares} processes"
    )


AnyRecipe = Annotated[Recipe, OneOf(RECIPES, "recipe")]
"""The settings of any recipe, told apart by ``recipe``."""
