"""Accuracies of methods while they are trained, on validation images.

The values were measured in the trainings themselves, on real images that they do not learn from: the averaged weights,
clean and under PGD on the margin of Carlini and Wagner, as evaluations attack test images. Markers at the right end
show the evaluations of the last weights on test images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.evaluation.settings import AttackNames
from robustprune.experiments.figures.curve_claims import CurveClaim
from robustprune.experiments.figures.curves import FigureOfRuns, SeriesSpec, shown_in_words
from robustprune.experiments.figures.figure import (
    FigureStage,
    Panel,
    SeriesStyle,
    figure_form,
    in_words,
    publish_figure,
)
from robustprune.experiments.tables.row_specs import RowSpec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from robustprune.experiments.figures.lines import Curve
    from robustprune.experiments.runs import Run
    from robustprune.planning.context import Context

DEFINITION = {"figures.courses": 1}

CAPTION = (
    "Lines: averaged weights on real images that were held out from training, clean and under PGD on the C&W margin. "
    "Hollow markers at the end: the last weights on test images."
)


VALIDATIONS = {"validation_clean": Panel("clean accuracy, %", 2), "validation_pgd": Panel("robustness under C&W, %", 2)}
ValidationName = Annotated[str, in_words(VALIDATIONS)]


@figure_form("courses")
class ValidationCurves(FigureOfRuns):
    """Accuracies of methods while they are trained, on validation images, and of the last weights on test images."""

    form: Literal["courses"]
    quantities: tuple[ValidationName, ...] = Field(("validation_clean", "validation_pgd"), min_length=1)
    attacks: AttackNames | None = Field(("cw",), description="on the last weights")

    def _check_place(self, place: float) -> None:
        if not 0 < place <= 1:
            raise ValueError(f"claims: at = {place:g} should be a share of the training, above 0 and at most 1")

    @model_validator(mode="after")
    def _is_a_table(self) -> ValidationCurves:
        assert self.table.rows
        return self

    def plan(self, name: str, context: Context) -> str:
        """Plan the figure's stage and return its id. Raises UserError for a row whose training is not validated."""
        for row in self.series:
            if not context.under(row).config.training.named(row.recipe).validates:
                raise UserError(
                    f"{row.method}: its course is that of the validations, but training.{row.recipe} has none; set its "
                    "validation_images and validate_every above 0"
                )
        return context.add(
            ValidationCurvesStage(
                name=name,
                title=self.title,
                quantities=self.quantities,
                series=tuple(SeriesSpec(method=row.method, level=context.runs(row, self.table)) for row in self.series),
                claims=self.claims,
            )
        )


class ValidationCurvesStage(FigureStage):
    """Accuracies of methods while they are trained. ``level`` of a series holds its runs."""

    form: Literal["courses"] = "courses"
    quantities: tuple[ValidationName, ...]
    series: tuple[SeriesSpec, ...]
    claims: tuple[CurveClaim, ...]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: a panel per quantity, a curve per method over the epochs, and the test accuracy."""
        import pandas as pd

        from robustprune.experiments.claims import sentences
        from robustprune.experiments.figures.lines import draw_curves, judge_curves, lines_of, runs_in_words
        from robustprune.experiments.runs import Run

        runs = {series.method: [Run(job, run) for run in series.level] for series in self.series}
        curves = {method: validation_curve(of_method, self.quantities) for method, of_method in runs.items()}
        panels = {name: VALIDATIONS[name] for name in self.quantities}
        judged = judge_curves(self.claims, curves, panels, place=nearest_epoch, where="at epoch")
        validated = lines_of(curves, self.quantities, over="epoch").assign(images="validation")
        tested = lines_of(_tested(job, self), self.quantities, over="epoch").assign(images="test")
        data = pd.concat([validated, tested]) if len(tested) else validated
        figure = draw_curves(validated, panels, over="epoch", axis="epoch", heading=runs_in_words(validated))
        _mark_tested(figure, tested, self.quantities)
        every = [run for of_method in runs.values() for run in of_method]
        caption = [self.title, shown_in_words(f"{runs_in_words(validated)}, on validation images", every), CAPTION]
        publish_figure(job, figure, data, [*caption, *sentences(judged)])
        return {"title": self.title, "points": len(data), "claims": [asdict(claim) for claim in judged]}


def validation_curve(runs: Sequence[Run], names: Sequence[str]) -> Curve:
    """Return the validations of some runs, in percent, over the epochs after which all of them were validated."""
    from robustprune.experiments.figures.lines import Curve
    from robustprune.experiments.intervals import Sample

    tables = {run.seed: run.history.set_index("epoch").reindex(columns=list(names)).dropna(how="all") for run in runs}
    epochs = sorted(set.intersection(*(set(table.index) for table in tables.values())))

    def at(epoch: Any, name: str) -> Sample:
        return Sample({seed: 100 * float(table.loc[epoch, name]) for seed, table in tables.items()})

    return Curve({float(epoch): {name: at(epoch, name) for name in names} for epoch in epochs})


def nearest_epoch(curve: Curve, share: float) -> float:
    """Return the validated epoch nearest to that share of the training, the earlier of two."""
    last = max(curve.points)
    return min(curve.points, key=lambda epoch: (abs(epoch - share * last), epoch))


def _tested(job: Job, spec: ValidationCurvesStage) -> dict[str, Curve]:
    """Return the last weights' values on test images, as levels."""
    from robustprune.experiments.figures.lines import Curve
    from robustprune.experiments.runs import RowRuns
    from robustprune.experiments.tables.quantities import accuracy, robustness_cw

    tested, curves = {"validation_clean": accuracy, "validation_pgd": robustness_cw}, {}
    for series in spec.series:
        row = RowRuns(job, RowSpec(method="", runs=series.level), chance=0, compared=None)
        curves[series.method] = Curve({}, level={name: tested[name](row) for name in spec.quantities})
    return curves


def _mark_tested(figure: Figure, tested: pd.DataFrame, names: Sequence[str]) -> None:
    """Draw a hollow marker for each method at the right end of its panel, a little apart from the others."""
    for axes, quantity in zip(figure.axes, names, strict=True):
        end = axes.get_xlim()[1]
        step = (end - axes.get_xlim()[0]) * 0.02
        series = tested[tested["quantity"] == quantity] if len(tested) else tested
        for number, (mean, half) in enumerate(zip(series.get("mean", ()), series.get("ci95", ()), strict=True)):
            style = SeriesStyle.numbered(number)
            place = end + number * step
            axes.errorbar(place, mean, half, color=style.color, marker=style.marker, mfc="white", elinewidth=0.8)
