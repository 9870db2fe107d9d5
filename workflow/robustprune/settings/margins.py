"""How the distance of an image to the decision boundary is measured."""

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from robustprune.settings.base import Radius, Settings

BisectionSteps = Annotated[
    int,
    Field(
        ge=0,
        le=23,  # a share of a segment is a float32: below 2^-23 there is nothing between two of them to look at
        description="halvings of the segment that crosses the boundary; interpolation needs fewer evaluations",
    ),
]


class DeepFoolSettings(Settings):
    """DeepFool with bisection to the boundary (Moosavi-Dezfooli et al. 2016). Facts: section 3."""

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
    bisection_steps: BisectionSteps = 10
    negative: Literal["targeted", "nearest", "unsigned"] = Field(
        "targeted",
        description="margin of a misclassified image: targeted, minus the distance to its own class; nearest, minus "
        "the distance from the predicted class; unsigned, that distance itself",
    )


class BoundarySearchSettings(Settings):
    """PUMA's Algorithm 1: one gradient a step, however many classes there are. Facts: P5-P7."""

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


def _method(value: Any) -> str:
    """The method that settings name, DeepFool where they name none."""
    return str(value.get("method", "deepfool") if isinstance(value, dict) else getattr(value, "method", None))


AnyMarginSettings = Annotated[
    Annotated[DeepFoolSettings, Tag("deepfool")] | Annotated[BoundarySearchSettings, Tag("boundary_search")],
    Discriminator(
        _method, custom_error_type="method", custom_error_message="method should be deepfool or boundary_search"
    ),
]
"""How margins are measured, told apart by ``method``."""
