"""Claims on curves: which of their features can be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from robustprune.core.declarations import Declarations
from robustprune.experiments.claim_settings import Claim, Relation


class Feature(NamedTuple):
    """A number that sums up a curve.

    Attributes:
        words: its name in a caption.
        decimals: digits after the decimal point; None for those of the quantity.
        of: function of {place: value} of one seed, ascending; None where the curve has no such feature.
    """

    words: str
    decimals: int | None
    of: Callable[[dict[float, float]], float | None]


FEATURES: Declarations[Feature] = Declarations("curve_feature", "robustprune.experiments.figures")


def _known_feature(name: str) -> str:
    return name if name == "value" else FEATURES.known(name)


class CurveCheck(Relation):
    """One inequality between two curves, or between a curve and a number."""

    quantity: str = Field(description="what is compared; a panel of the figure")
    row: str = Field(description="method of the curve")
    feature: Annotated[str, AfterValidator(_known_feature)] = Field(
        "value",
        description="value: at the place ``at``; mean: of all places; peak: the place of the largest value; "
        "linearity: squared correlation of value and place, 1 for a straight line",
    )
    at: float | Literal["every"] | None = Field(
        None, description="place on the axis, or every place; along a training, the share of its epochs"
    )
    other_at: float | None = Field(None, description="place on the other curve, where it differs")

    @model_validator(mode="after")
    def _places_are_used(self) -> CurveCheck:
        if self.feature != "value" and self.at is not None:
            raise ValueError(f"at = {self.at} goes with feature = value, not with {self.feature}")
        if self.other_at is not None and (self.at == "every" or not isinstance(self.other, str)):
            raise ValueError(f"other_at = {self.other_at} goes with a place, at, and another method")
        return self


CurveClaim = Claim[CurveCheck]
