"""Figures that show scores of images, of one model each."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from robustprune.core.settings import Settings
from robustprune.core.stage import ScoreId
from robustprune.experiments.claim_settings import Claim, Relation
from robustprune.experiments.figures.figure import FigureForm

if TYPE_CHECKING:
    from robustprune.experiments.row import Row
    from robustprune.planning.context import Context

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


class ScoreSeries(Settings):
    """A method, and its scores of each pool that it learns from."""

    method: str
    scores: tuple[ScoreId, ...] = Field(min_length=1)


class FigureOfScores(FigureForm):
    """What figures have that show scores of images, of one model each."""

    measures: ClassVar[tuple[MeasureName, ...]]
    claims: tuple[MeasureClaim, ...] = ()

    @property
    def measured(self) -> tuple[str, ...]:
        """What has measures, and so can be claimed of."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _claims_name_what_there_is(self) -> FigureOfScores:
        if len(set(self.measured)) < len(self.measured):
            raise ValueError(f"two series have the same name: {', '.join(self.measured)}")
        for check in (check for claim in self.claims for check in claim.checks):
            for name in (check.row, *([check.other] if isinstance(check.other, str) else [])):
                if name not in self.measured:
                    raise ValueError(f"claims: there is no {name!r}; there are {', '.join(self.measured)}")
            if check.measure not in self.measures:
                raise ValueError(f"claims: {check.measure} is not measured here, but {', '.join(self.measures)}")
        return self


def scores_of_row(context: Context, row: Row) -> ScoreSeries:
    """Return a row's method and the score of each pool that it learns from."""
    return ScoreSeries(method=row.method, scores=context.scored(row))


def pools_of(context: Context, series: ScoreSeries) -> tuple[str, ...]:
    """The pool whose images each of the scores is of."""
    return tuple(dict(reversed(context.stages[score].upstream))["pools"] for score in series.scores)
