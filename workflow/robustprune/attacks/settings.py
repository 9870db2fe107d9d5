"""How the distance of an image to the decision boundary is measured."""

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from robustprune.core.settings import Radius, Settings

BisectionSteps = Annotated[
    int,
    Field(
        ge=0,
        le=23,  # a share of a segment is a float32: below 2^-23 there is nothing between two of them to look at
        description="halvings of the segment that crosses the boundary; interpolation needs fewer evaluations",
    ),
]


DeepFoolTarget = Annotated[
    Literal["rechosen", "fixed"],
    Field(
        description="the class that DeepFool steps to: rechosen, the nearest in every step, as in its paper; fixed, "
        "the nearest in the first step, as in Kaufmann et al. (papers.md, K4)",
    ),
]


class DeepFoolSettings(Settings):
    """DeepFool with bisection to the boundary (Moosavi-Dezfooli et al. 2016)."""

    method: Literal["deepfool"] = Field("deepfool", description="the method's own name")
    max_steps: int = Field(50, ge=1, description="linearisation steps before a sample is given up")
    overshoot: float = Field(0.02, ge=0, description="share by which a step goes beyond the linearised boundary")
    candidates: int | None = Field(
        None, ge=1, description="other classes considered in a step, those of the largest logits; null for all"
    )
    slope_ratio: float | None = Field(
        1.75,
        ge=1,
        description="how much steeper a logit can be than known, for its class to be worth a gradient; null for all",
    )
    target: DeepFoolTarget = "rechosen"
    bisection_steps: BisectionSteps = 10
    negative: Literal["targeted", "nearest", "unsigned"] = Field(
        "targeted",
        description="margin of a misclassified image: targeted, minus the distance to its own class; nearest, minus "
        "the distance from the predicted class; unsigned, that distance itself",
    )


class BoundarySearchSettings(Settings):
    """PUMA's Algorithm 1: one gradient a step, however many classes there are. See papers.md, P5-P7."""

    method: Literal["boundary_search"] = Field("boundary_search", description="the method's own name")
    step_size: Radius = Field(Fraction(1, 255), gt=0, description="length of a step in the threat model's norm")
    max_steps: int = Field(
        64,
        ge=1,
        description="steps before a sample is given up; step_size times this must reach beyond the margin pruned at",
    )
    bisection_steps: BisectionSteps = 10

    @property
    def negative(self) -> Literal["targeted"]:
        """A misclassified image has minus the distance to its own class."""
        return "targeted"

    @property
    def reach(self) -> Fraction:
        """The largest margin that can be found; a larger one is infinite."""
        return self.step_size * self.max_steps


AnyMarginSettings = Annotated[DeepFoolSettings | BoundarySearchSettings, Field(discriminator="method")]
"""How margins are measured, told apart by ``method``."""

MarginMethod = Literal["deepfool", "boundary_search"]


class MarginSettings(Settings):
    """The ways to measure margins, and which of them is used where a row does not say."""

    method: MarginMethod = Field("deepfool", description="deepfool | boundary_search (PUMA, Algorithm 1)")
    deepfool: DeepFoolSettings = DeepFoolSettings()
    boundary_search: BoundarySearchSettings = BoundarySearchSettings()

    def named(self, method: MarginMethod | None) -> AnyMarginSettings:
        """The settings of that method; of the default one for None."""
        settings: AnyMarginSettings = getattr(self, method or self.method)
        return settings
