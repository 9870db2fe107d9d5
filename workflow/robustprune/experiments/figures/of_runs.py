"""Figures whose curves are of methods, as tables' rows are: trained once for each seed."""

from typing import Literal

from pydantic import Field, model_validator

from robustprune.core.settings import Settings, Weights
from robustprune.evaluation.settings import AttackNames
from robustprune.experiments.claim_settings import Claim, Relation
from robustprune.experiments.figures.figure import FigureForm
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.experiments.tables.quantity import QuantityName
from robustprune.experiments.tables.specs import RunSpec

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


class PointSpec(Settings):
    """A method with its key set to a value: its runs, one a seed."""

    place: float
    runs: tuple[RunSpec, ...]


class SeriesSpec(Settings):
    """A method: a point for each value of the key, or one set of runs for them all."""

    method: str
    points: tuple[PointSpec, ...] = ()
    level: tuple[RunSpec, ...] = ()

    @property
    def runs(self) -> tuple[RunSpec, ...]:
        """All of them."""
        return (*(run for point in self.points for run in point.runs), *self.level)


class FigureOfRuns(FigureForm):
    """What figures have whose curves are of methods, as tables' rows are: trained once for each seed."""

    weights: Weights | None = Field(None, description="which weights of its models are evaluated")
    attacks: AttackNames | None = Field(
        None, description="what its models are measured under; evaluation.attacks where absent"
    )
    claims: tuple[CurveClaim, ...] = ()

    @property
    def curves(self) -> tuple[str, ...]:
        """The methods that have a value at each place of the axis."""
        return ()

    @property
    def levels(self) -> tuple[str, ...]:
        """The methods that have one value, whatever the place."""
        return ()

    def table_of(self, rows: tuple[Row, ...]) -> Table:
        """The rows as those of a table, as which they are planned. Raises ValueError where they do not make one."""
        target = self.target.removesuffix(".svg") + ".csv"
        return Table(title=self.title, target=target, weights=self.weights, attacks=self.attacks, rows=rows)

    @model_validator(mode="after")
    def _claims_name_what_there_is(self) -> "FigureOfRuns":
        quantities: tuple[str, ...] = getattr(self, "quantities", ())
        for check in (check for claim in self.claims for check in claim.checks):
            if check.quantity not in quantities:
                raise ValueError(f"claims: there is no panel of {check.quantity}; there are {', '.join(quantities)}")
            for method in (check.row, *([check.other] if isinstance(check.other, str) else [])):
                if method not in (*self.curves, *self.levels):
                    known = ", ".join((*self.curves, *self.levels))
                    raise ValueError(f"claims: there is no {method!r}; there are {known}")
            if check.row in self.levels:
                raise ValueError(f"claims: {check.row!r} is the same everywhere, so put it after above, below or near")
            if check.feature == "value" and check.at is None:
                raise ValueError(f"claims: of {check.row!r} it should say at which place, or at: every")
            self._check_places(check.at, check.other_at)
        return self

    def _check_places(self, *asked: float | str | None) -> None:
        """Raise ValueError for a place that is not on the axis."""
