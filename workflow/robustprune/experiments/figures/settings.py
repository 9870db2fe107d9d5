"""What a figure of runs shows, and what its paper claims of it."""

from typing import Literal

from pydantic import Field, model_validator

from robustprune.experiments.claim_settings import Claim, Relation
from robustprune.experiments.tables.settings import QuantityName
from robustprune.scores.extrapolation.neighbour_settings import Sources

SOURCE_WORDS: dict[Sources, str] = {"real": "real", "synthetic": "generated", "all": "real and generated"}
"""Which images neighbours are looked for among, for people."""

CourseName = Literal["validation_clean", "validation_pgd"]
"""What is measured again and again while a model is trained; ``training.validation`` says how."""

Feature = Literal["value", "mean", "peak", "linearity"]
"""What of a curve is compared: its value at a place, their mean, the place of the largest, how straight it is."""


class CurveCheck(Relation):
    """One inequality between two curves, or between a curve and a number."""

    quantity: QuantityName | CourseName
    row: str = Field(description="method of the curve")
    feature: Feature = Field(
        "value",
        description="value: at the place ``at``; mean: of all places; peak: the place of the largest value; "
        "linearity: squared correlation of value and place, 1 for a straight line",
    )
    at: float | Literal["every"] | None = Field(
        None, description="place on the axis, or every place; along a training, the share of it that is over"
    )
    other_at: float | None = Field(None, description="place on the other curve, where it is not the same")

    @model_validator(mode="after")
    def _places_are_used(self) -> "CurveCheck":
        if self.feature != "value" and self.at is not None:
            raise ValueError(f"at = {self.at} goes with feature = value, not with {self.feature}")
        if self.other_at is not None and (self.at == "every" or not isinstance(self.other, str)):
            raise ValueError(f"other_at = {self.other_at} goes with a place, at, and another method")
        return self


CurveClaim = Claim[CurveCheck]

MeasureName = Literal[
    "median",
    "low",
    "tail",
    "censored",
    "distance",
    "rank_correlation",
    "correlation",
    "slope",
    "spread",
    "mae",
    "mae_ratio",
    "correlation_low",
    "correlation_high",
    "fast_over_slow",
    "same_decision",
    "of_first",
    "jaccard",
    "of_all",
]
"""What is told of scores in one number; ``figures.measures`` says what each is."""


class MeasureCheck(Relation):
    """One inequality between two series of scores, or between one and a number."""

    measure: MeasureName
    row: str = Field(description="name of the series")


MeasureClaim = Claim[MeasureCheck]
