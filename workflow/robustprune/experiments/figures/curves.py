"""Quantities of methods over a value that is set on each of them, such as the share dropped or the epoch of pruning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from robustprune.core.job import Job
from robustprune.core.settings import Settings, Weights
from robustprune.evaluation.settings import AttackNames
from robustprune.experiments.figures.curve_claims import CurveClaim
from robustprune.experiments.figures.figure import (
    FigureEntry,
    FigureStage,
    Panel,
    figure_form,
    publish_figure,
    refuse_duplicates,
)
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.experiments.tables.quantity import QuantityName, accuracies, refuse_unmeasured
from robustprune.experiments.tables.row_specs import RowSpec, RunSpec

if TYPE_CHECKING:
    from robustprune.experiments.figures.lines import Cells
    from robustprune.experiments.runs import Run
    from robustprune.planning.context import Context

DEFINITION = {"figures.curves": 1}

OVER_RUNS: tuple[str, ...] = (
    *accuracies(),
    *("training_seconds", "images_kept", "square_gain", "zero_gradients", "doubtful_runs", "below_chance"),
    "collapsed_runs",
)
"""The quantities of a method that are numbers."""


class FigureOfRuns(FigureEntry):
    """The keys of figures whose curves are of methods that are trained once for each seed, as in a table."""

    weights: Weights | None = Field(None, description="which weights of its models are evaluated")
    attacks: AttackNames | None = Field(
        None, description="attacks that its models are evaluated under; evaluation.attacks where absent"
    )
    claims: tuple[CurveClaim, ...] = ()
    series: tuple[Row, ...] = Field(min_length=1, description="methods, a curve each")

    @property
    def curves(self) -> tuple[str, ...]:
        """The methods that have a value at each place of the axis."""
        return tuple(row.method for row in self.series)

    @property
    def levels(self) -> tuple[str, ...]:
        """The methods that have one value, whatever the place."""
        return ()

    @property
    def rows_of_table(self) -> tuple[Row, ...]:
        """All rows of the figure."""
        return self.series

    @cached_property
    def table(self) -> Table:
        """The table as which the rows are planned. Raises ValueError where they do not make one."""
        rows = self.rows_of_table
        target = self.target.removesuffix(".svg") + ".csv"
        return Table(title=self.title, target=target, weights=self.weights, attacks=self.attacks, rows=rows)

    @model_validator(mode="after")
    def _claims_are_of_the_figure(self) -> FigureOfRuns:
        panels, known = getattr(self, "quantities", ()), (*self.curves, *self.levels)
        for check in (check for claim in self.claims for check in claim.checks):
            if check.quantity not in panels:
                raise ValueError(f"claims: there is no panel of {check.quantity}; there are {', '.join(panels)}")
            for method in (check.row, check.other):
                if isinstance(method, str) and method not in known:
                    raise ValueError(f"claims: there is no {method!r}; there are {', '.join(known)}")
            if check.row in self.levels:
                raise ValueError(f"claims: {check.row!r} is the same everywhere, so put it after above, below or near")
            if check.feature == "value" and check.at is None:
                raise ValueError(f"claims: of {check.row!r} it should say at which place, or at: every")
            for place in (check.at, check.other_at):
                if isinstance(place, float):
                    self._check_place(place)
        return self

    def _check_place(self, place: float) -> None:
        """Raise ValueError for a place that is not on the axis."""


class PointSpec(Settings):
    """The runs of a method with its key set to a value, one a seed."""

    place: float
    runs: tuple[RunSpec, ...]


class SeriesSpec(Settings):
    """A method: a point for each value of the key, or one set of runs for all values."""

    method: str
    points: tuple[PointSpec, ...] = ()
    level: tuple[RunSpec, ...] = ()

    @property
    def runs(self) -> tuple[RunSpec, ...]:
        """All runs of the method."""
        return (*(run for point in self.points for run in point.runs), *self.level)


@figure_form("curves")
class Curves(FigureOfRuns):
    """Quantities of methods over a value that is set on each of them, such as the share dropped; a panel a quantity."""

    form: Literal["curves"]
    quantities: tuple[QuantityName, ...] = Field(min_length=1, description="a panel each")
    over: str = Field(
        pattern=r"^\w+(\.\w+)?$", description="the key of a row that takes the values: ratio | mid_training.keep | ..."
    )
    values: tuple[float, ...] = Field(min_length=2, description="what it is set to, ascending")
    axis: str = Field(min_length=1, description="label of the axis of these values")
    beside: tuple[Row, ...] = Field((), description="methods for which the key is not set, a level line each")

    @cached_property
    def rows(self) -> dict[str, dict[float, Row]]:
        """The row of each curve at each of the values. Raises ValueError where that is not allowed."""
        return {row.method: {value: row.at(self.over, value) for value in self.values} for row in self.series}

    @property
    def rows_of_table(self) -> tuple[Row, ...]:
        return (*(row for points in self.rows.values() for row in points.values()), *self.beside)

    @property
    def levels(self) -> tuple[str, ...]:
        return tuple(row.method for row in self.beside)

    def _check_place(self, place: float) -> None:
        if place not in self.values:
            values = ", ".join(f"{value:g}" for value in self.values)
            raise ValueError(f"claims: at = {place:g} is not among the values {values}")

    @model_validator(mode="after")
    def _quantities_are_numbers_of_runs(self) -> Curves:
        if list(self.values) != sorted(set(self.values)):
            raise ValueError(f"values = {list(self.values)} should rise")
        for name in self.quantities:
            if name not in OVER_RUNS:
                raise ValueError(f"quantities: {name} is no number of a run; there are {', '.join(OVER_RUNS)}")
        if self.attacks is not None:
            refuse_unmeasured(self.quantities, self.attacks)
        refuse_duplicates(self.curves + self.levels, "methods")
        assert self.table.rows
        return self

    def plan(self, name: str, context: Context) -> str:
        context.check_measured(self.quantities, self.attacks)
        curves = []
        for method, rows in self.rows.items():
            points = (PointSpec(place=value, runs=context.runs(row, self.table)) for value, row in rows.items())
            curves.append(SeriesSpec(method=method, points=tuple(points)))
        levels = [SeriesSpec(method=row.method, level=context.runs(row, self.table)) for row in self.beside]
        return context.add(
            CurvesStage(
                name=name,
                title=self.title,
                quantities=self.quantities,
                over=self.over,
                axis=self.axis,
                classes=context.config.data.classes,
                series=(*curves, *levels),
                claims=self.claims,
            )
        )


class CurvesStage(FigureStage):
    """Quantities of methods over a value that is set on each of them."""

    form: Literal["curves"] = "curves"
    quantities: tuple[QuantityName, ...]
    over: str
    axis: str
    classes: int = Field(description="of the data, for the accuracy of guessing")
    series: tuple[SeriesSpec, ...]
    claims: tuple[CurveClaim, ...]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: a panel a quantity, a curve a method, level lines of methods without the value."""
        from robustprune.experiments.claims import sentences
        from robustprune.experiments.figures.lines import Curve, draw_curves, judge_curves, lines_of, runs_in_words
        from robustprune.experiments.runs import Run
        from robustprune.experiments.tables.quantity import QUANTITIES

        chance, names, over = 100 / self.classes, self.quantities, self.over.rpartition(".")[2]
        curves = {
            series.method: Curve(
                points={point.place: cells_of(job, point.runs, names, chance=chance) for point in series.points},
                level=cells_of(job, series.level, names, chance=chance) if series.level else None,
            )
            for series in self.series
        }
        panels: dict[str, Panel] = {name: Panel(QUANTITIES[name].heading, QUANTITIES[name].decimals) for name in names}
        data, judged = lines_of(curves, names, over=over), judge_curves(self.claims, curves, panels)
        figure = draw_curves(data, panels, over=over, axis=self.axis, heading=runs_in_words(data))
        shown = shown_in_words(runs_in_words(data), (Run(job, run) for series in self.series for run in series.runs))
        publish_figure(job, figure, data, [self.title, shown, *sentences(judged)])
        return {"title": self.title, "points": len(data), "claims": [asdict(claim) for claim in judged]}


def cells_of(job: Job, runs: tuple[RunSpec, ...], names: Sequence[QuantityName], *, chance: float) -> Cells:
    """Return the quantities of a method's runs, as in a table."""
    from robustprune.experiments.runs import RowRuns
    from robustprune.experiments.tables.quantity import QUANTITIES

    row = RowRuns(job, RowSpec(method="", runs=runs), chance=chance, compared=None)
    return {name: QUANTITIES[name].cell(row) for name in names}


def shown_in_words(means: str, runs: Iterable[Run]) -> str:
    """Return the sentence of a caption that says which means are shown, and of how many test images."""
    counts = sorted({(attack, int(found["images"])) for run in runs for attack, found in run.evaluation.items()})
    images = ", ".join(f"{count:,} ({attack})" for attack, count in counts)
    return f"Shown: {means}." + (f" Test images: {images}." if images else "")
