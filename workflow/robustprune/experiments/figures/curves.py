"""The figure of quantities over a value that is set on methods: a share dropped, an epoch of pruning."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from robustprune.core.job import Job
from robustprune.experiments.figures.claims import judge_curves, sentences
from robustprune.experiments.figures.lines import Cells, Curve, Panel, draw_curves, lines_of, runs_in_words
from robustprune.experiments.figures.specs import CurvesStage
from robustprune.experiments.figures.style import publish_figure
from robustprune.experiments.runs import RowRuns, Run
from robustprune.experiments.tables.quantities import QUANTITIES
from robustprune.experiments.tables.settings import QuantityName
from robustprune.experiments.tables.specs import RowSpec, RunSpec

DEFINITION = {"figures.curves": 1}


def run(job: Job, spec: CurvesStage) -> dict[str, Any]:
    """Publish the figure: a panel a quantity, a curve a method, level lines of methods without the value.

    Returns:
        title, number of points, and for each claim what was found and whether this run agrees.
    """
    chance, names, over = 100 / spec.classes, spec.quantities, spec.over.rpartition(".")[2]
    curves = {
        series.method: Curve(
            points={point.place: cells_of(job, point.runs, names, chance=chance) for point in series.points},
            level=cells_of(job, series.level, names, chance=chance) if series.level else None,
        )
        for series in spec.series
    }
    panels: dict[str, Panel] = {name: Panel(QUANTITIES[name].heading, QUANTITIES[name].decimals) for name in names}
    data, judged = lines_of(curves, names, over=over), judge_curves(spec.claims, curves, panels)
    figure = draw_curves(data, panels, over=over, axis=spec.axis, heading=runs_in_words(data))
    shown = shown_in_words(runs_in_words(data), (Run(job, run) for series in spec.series for run in series.runs))
    publish_figure(job, figure, data, [spec.title, shown, *sentences(judged)])
    return {"title": spec.title, "points": len(data), "claims": [asdict(one) for one in judged]}


def cells_of(job: Job, runs: tuple[RunSpec, ...], names: Sequence[QuantityName], *, chance: float) -> Cells:
    """The quantities of a method's runs, as in a table."""
    row = RowRuns(job, RowSpec(method="", runs=runs), chance=chance, compared=None)
    return {name: QUANTITIES[name].cell(row) for name in names}


def shown_in_words(what: str, runs: Iterable[Run]) -> str:
    """A sentence on what is shown, and of how many test images."""
    counts = sorted({(attack, int(found["images"])) for run in runs for attack, found in run.evaluation.items()})
    images = ", ".join(f"{count:,} ({attack})" for attack, count in counts)
    return f"Shown: {what}." + (f" Test images: {images}." if images else "")
