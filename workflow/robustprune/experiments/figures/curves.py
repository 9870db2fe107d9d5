"""The figure of quantities over a value that is set on methods: a share dropped, an epoch of pruning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from robustprune.core.job import Job
from robustprune.experiments.figures.settings import CurveClaim
from robustprune.experiments.figures.specs import FigureStage, SeriesSpec
from robustprune.experiments.tables.settings import QuantityName
from robustprune.experiments.tables.specs import RowSpec, RunSpec

if TYPE_CHECKING:
    from robustprune.experiments.figures.lines import Cells
    from robustprune.experiments.runs import Run


DEFINITION = {"figures.curves": 1}


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
        from robustprune.experiments.figures.lines import Curve, draw_curves, lines_of, runs_in_words
        from robustprune.experiments.figures.specs import Panel
        from robustprune.experiments.figures.style import publish_figure
        from robustprune.experiments.runs import Run
        from robustprune.experiments.tables.quantities import QUANTITIES

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


def cells_of(job: Job, runs: tuple[RunSpec, ...], names: Sequence[QuantityName], *, chance: float) -> Cells:
    """The quantities of a method's runs, as in a table."""
    from robustprune.experiments.runs import RowRuns
    from robustprune.experiments.tables.quantities import QUANTITIES

    row = RowRuns(job, RowSpec(method="", runs=runs), chance=chance, compared=None)
    return {name: QUANTITIES[name].cell(row) for name in names}


def shown_in_words(what: str, runs: Iterable[Run]) -> str:
    """A sentence on what is shown, and of how many test images."""
    counts = sorted({(attack, int(found["images"])) for run in runs for attack, found in run.evaluation.items()})
    images = ", ".join(f"{count:,} ({attack})" for attack, count in counts)
    return f"Shown: {what}." + (f" Test images: {images}." if images else "")
