"""The figure of quantities over a value that is set on methods: a share dropped, an epoch of pruning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from robustprune.core.job import Job
from robustprune.experiments.figures.figure import FigureStage, figure
from robustprune.experiments.figures.of_runs import CurveClaim, FigureOfRuns, PointSpec, SeriesSpec
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.experiments.tables.quantity import QuantityName, accuracies, refuse_unmeasured
from robustprune.experiments.tables.specs import RowSpec, RunSpec

if TYPE_CHECKING:
    from robustprune.experiments.figures.lines import Cells
    from robustprune.experiments.runs import Run
    from robustprune.planning.context import Context


DEFINITION = {"figures.curves": 1}


OVER_RUNS: tuple[QuantityName, ...] = (
    *accuracies(),
    *("training_seconds", "images_kept", "square_gain", "zero_gradients", "doubtful_runs", "below_chance"),
    "collapsed_runs",
)
"""The quantities of a run, or of some runs, that are numbers."""


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
        """Publish the figure: a panel a quantity, a curve a method, level lines of methods without the value.

        Returns:
            title, number of points, and for each claim what was found and whether this run agrees.
        """
        from robustprune.experiments.claims import sentences
        from robustprune.experiments.figures.claims import judge_curves
        from robustprune.experiments.figures.figure import Panel
        from robustprune.experiments.figures.lines import Curve, draw_curves, lines_of, runs_in_words
        from robustprune.experiments.figures.style import publish_figure
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
        return {"title": self.title, "points": len(data), "claims": [asdict(one) for one in judged]}


@figure("curves")
class Curves(FigureOfRuns):
    """Quantities of methods over a value that is set on each of them, such as the share dropped; a panel a quantity."""

    form: Literal["curves"]
    quantities: tuple[QuantityName, ...] = Field(min_length=1, description="a panel each")
    over: str = Field(
        pattern=r"^\w+(\.\w+)?$", description="the key of a row that takes the values: ratio | mid_training.keep | ..."
    )
    values: tuple[float, ...] = Field(min_length=2, description="what it is set to, ascending")
    axis: str = Field(min_length=1, description="what stands at the axis of these values")
    series: tuple[Row, ...] = Field(min_length=1, description="methods, a curve each")
    beside: tuple[Row, ...] = Field((), description="methods for which the key is not set, a level line each")

    @cached_property
    def rows(self) -> dict[str, dict[float, Row]]:
        """The row of each curve at each of the values. Raises ValueError where that is none."""
        return {row.method: {value: row.at(self.over, value) for value in self.values} for row in self.series}

    @cached_property
    def table(self) -> Table:
        """All rows as those of one table."""
        points = [row for points in self.rows.values() for row in points.values()]
        return self.table_of((*points, *self.beside))

    @property
    def curves(self) -> tuple[str, ...]:
        """The methods that have a value at each place of the axis."""
        return tuple(row.method for row in self.series)

    @property
    def levels(self) -> tuple[str, ...]:
        """The methods that have one value, whatever the place."""
        return tuple(row.method for row in self.beside)

    def _check_places(self, *asked: float | str | None) -> None:
        for place in asked:
            if isinstance(place, float) and place not in self.values:
                values = ", ".join(f"{value:g}" for value in self.values)
                raise ValueError(f"claims: at = {place:g} is not among the values {values}")

    @model_validator(mode="after")
    def _is_a_table(self) -> Curves:
        if list(self.values) != sorted(set(self.values)):
            raise ValueError(f"values = {list(self.values)} should rise")
        for name in self.quantities:
            if name not in OVER_RUNS:
                raise ValueError(f"quantities: {name} is no number of a run; there are {', '.join(OVER_RUNS)}")
        if self.attacks is not None:
            refuse_unmeasured(self.quantities, self.attacks)
        if len({*self.curves, *self.levels}) < len(self.curves + self.levels):
            raise ValueError(f"two methods have the same name: {', '.join(self.curves + self.levels)}")
        assert self.table.rows
        return self

    def plan(self, context: Context, name: str) -> str:
        """Plan the self's stage and what it reads, and return its id."""
        context.check_measured(self.quantities, self.attacks)
        table = self.table
        curves = [
            SeriesSpec(
                method=method,
                points=tuple(
                    PointSpec(place=value, runs=context.runs(row, table)) for value, row in self.rows[method].items()
                ),
            )
            for method in self.curves
        ]
        levels = [SeriesSpec(method=row.method, level=context.runs(row, table)) for row in self.beside]
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


def cells_of(job: Job, runs: tuple[RunSpec, ...], names: Sequence[QuantityName], *, chance: float) -> Cells:
    """The quantities of a method's runs, as in a table."""
    from robustprune.experiments.runs import RowRuns
    from robustprune.experiments.tables.quantity import QUANTITIES

    row = RowRuns(job, RowSpec(method="", runs=runs), chance=chance, compared=None)
    return {name: QUANTITIES[name].cell(row) for name in names}


def shown_in_words(what: str, runs: Iterable[Run]) -> str:
    """A sentence on what is shown, and of how many test images."""
    counts = sorted({(attack, int(found["images"])) for run in runs for attack, found in run.evaluation.items()})
    images = ", ".join(f"{count:,} ({attack})" for attack, count in counts)
    return f"Shown: {what}." + (f" Test images: {images}." if images else "")
