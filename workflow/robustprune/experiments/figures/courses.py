"""The figure of how methods do while they are trained.

What is drawn was measured in the trainings themselves, on real images that they do not learn from: the averaged
weights, clean and under PGD on the margin of Carlini and Wagner, as the evaluations attack test images. At the right
end stands what those found of the last weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.evaluation.settings import AttackNames
from robustprune.experiments.figures.curves import shown_in_words
from robustprune.experiments.figures.figure import FigureStage, Panel, figure
from robustprune.experiments.figures.of_runs import CourseName, CurveClaim, FigureOfRuns, SeriesSpec
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.experiments.tables.specs import RowSpec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustprune.experiments.figures.figure import Panel
    from robustprune.experiments.figures.lines import Curve
    from robustprune.experiments.runs import Run
    from robustprune.planning.context import Context


DEFINITION = {"figures.courses": 1}

PANELS: dict[CourseName, Panel] = {
    "validation_clean": Panel("clean accuracy, %", 2),
    "validation_pgd": Panel("robustness under C&W, %", 2),
}

HOW = (
    "Lines: averaged weights on real images that were held out from training, clean and under PGD on the C&W margin. "
    "Hollow markers at the end: the last weights on test images."
)


class CoursesStage(FigureStage):
    """How methods do while they are trained. ``level`` of a series is its runs."""

    form: Literal["courses"] = "courses"
    quantities: tuple[CourseName, ...]
    series: tuple[SeriesSpec, ...]
    claims: tuple[CurveClaim, ...]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: a panel per quantity, a curve per method over the epochs, and the test accuracy.

        Returns:
            title, number of points, and for each claim what was found and whether this run agrees.
        """
        import pandas as pd

        from robustprune.experiments.claims import sentences
        from robustprune.experiments.figures.claims import judge_curves
        from robustprune.experiments.figures.lines import draw_curves, lines_of, runs_in_words
        from robustprune.experiments.figures.style import publish_figure
        from robustprune.experiments.runs import Run

        runs = {series.method: [Run(job, run) for run in series.level] for series in self.series}
        curves = {method: course_of(own, self.quantities) for method, own in runs.items()}
        panels: dict[str, Panel] = {name: PANELS[name] for name in self.quantities}
        judged = judge_curves(self.claims, curves, panels, place=nearest_epoch, where="at epoch")
        course = lines_of(curves, self.quantities, over="epoch").assign(images="validation")
        tested = lines_of(_tested(job, self), self.quantities, over="epoch").assign(images="test")
        data = pd.concat([course, tested]) if len(tested) else course
        figure = draw_curves(course, panels, over="epoch", axis="epoch", heading=runs_in_words(course))
        _mark_tested(figure, tested, self.quantities)
        every = [run for own in runs.values() for run in own]
        caption = [self.title, shown_in_words(f"{runs_in_words(course)}, on validation images", every), HOW]
        publish_figure(job, figure, data, [*caption, *sentences(judged)])
        return {"title": self.title, "points": len(data), "claims": [asdict(one) for one in judged]}


@figure("courses")
class Courses(FigureOfRuns):
    """How methods do while they are trained, on validation images, and in the end on test images."""

    form: Literal["courses"]
    quantities: tuple[CourseName, ...] = Field(("validation_clean", "validation_pgd"), min_length=1)
    attacks: AttackNames | None = Field(("cw",), description="on the last weights")
    series: tuple[Row, ...] = Field(min_length=1, description="methods, a curve each")

    @cached_property
    def table(self) -> Table:
        """The rows as those of a table."""
        return self.table_of(self.series)

    @property
    def curves(self) -> tuple[str, ...]:
        """The methods that have a value at each place of the axis."""
        return tuple(row.method for row in self.series)

    def _check_places(self, *asked: float | str | None) -> None:
        for place in asked:
            if isinstance(place, float) and not 0 < place <= 1:
                raise ValueError(f"claims: at = {place:g} should be a share of the training, above 0 and at most 1")

    @model_validator(mode="after")
    def _is_a_table(self) -> Courses:
        assert self.table.rows
        return self

    def plan(self, context: Context, name: str) -> str:
        """Plan the self's stage and what it reads, and return its id."""
        for row in self.series:
            recipe = context.under(row).config.training.named(row.recipe)
            if not recipe.validates:
                raise UserError(
                    f"{row.method}: its course is that of the validations, but training.{row.recipe} has none; set its "
                    "validation_images and validate_every above 0"
                )
        series = [SeriesSpec(method=row.method, level=context.runs(row, self.table)) for row in self.series]
        return context.add(
            CoursesStage(
                name=name,
                title=self.title,
                quantities=self.quantities,
                series=tuple(series),
                claims=self.claims,
            )
        )


def course_of(runs: Sequence[Run], names: Sequence[CourseName]) -> Curve:
    """What was validated of some runs, in percent, over the epochs after which all of them were."""
    from robustprune.experiments.cells import Sample
    from robustprune.experiments.figures.lines import Curve

    courses = {run.seed: run.history.set_index("epoch").reindex(columns=list(names)).dropna(how="all") for run in runs}
    epochs = sorted(set.intersection(*(set(course.index) for course in courses.values())))
    return Curve(
        {
            float(epoch): {
                name: Sample({seed: 100 * float(course.loc[epoch, name]) for seed, course in courses.items()})
                for name in names
            }
            for epoch in epochs
        }
    )


def nearest_epoch(curve: Curve, share: float) -> float:
    """The validated epoch nearest to that share of the training, the earlier of two."""
    last = max(curve.points)
    return min(curve.points, key=lambda epoch: (abs(epoch - share * last), epoch))


def _tested(job: Job, spec: CoursesStage) -> dict[str, Curve]:
    """The last weights' values on test images, as levels."""
    from robustprune.experiments.figures.lines import Curve
    from robustprune.experiments.runs import RowRuns
    from robustprune.experiments.tables.quantities import accuracy, robustness_cw

    of_test_images = {"validation_clean": accuracy, "validation_pgd": robustness_cw}
    rows = {
        one.method: RowRuns(job, RowSpec(method="", runs=one.level), chance=0, compared=None) for one in spec.series
    }
    return {
        method: Curve({}, level={name: of_test_images[name](row) for name in spec.quantities})
        for method, row in rows.items()
    }


def _mark_tested(figure: Figure, tested: pd.DataFrame, names: Sequence[CourseName]) -> None:
    """A hollow marker for each method at the right end of its panel, a little apart from the others."""
    from robustprune.experiments.figures.style import Series

    panels: list[Axes] = figure.axes
    for axes, quantity in zip(panels, names, strict=True):
        end = axes.get_xlim()[1]
        step = (end - axes.get_xlim()[0]) * 0.02
        series = tested[tested["quantity"] == quantity] if len(tested) else tested
        for number, (mean, half) in enumerate(zip(series.get("mean", ()), series.get("ci95", ()), strict=True)):
            style = Series.numbered(number)
            at = end + number * step
            axes.errorbar(at, mean, half, color=style.color, marker=style.marker, mfc="white", elinewidth=0.8)
