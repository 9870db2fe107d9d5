"""The figure of how methods do while they are trained.

What is drawn was measured in the trainings themselves, on real images that they do not learn from: the averaged
weights, clean and under PGD on the margin of Carlini and Wagner, as the evaluations attack test images. At the right
end stands what those found of the last weights.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustprune.core.job import Job
from robustprune.experiments.figures.claims import judge_curves, sentences
from robustprune.experiments.figures.curves import cells_of, shown_in_words
from robustprune.experiments.figures.lines import Curve, Panel, draw_curves, lines_of, runs_in_words
from robustprune.experiments.figures.settings import CourseName
from robustprune.experiments.figures.specs import CoursesStage
from robustprune.experiments.figures.style import Series, publish_figure
from robustprune.experiments.runs import Run
from robustprune.experiments.statistics import Sample
from robustprune.experiments.tables.settings import QuantityName

DEFINITION = {"figures.courses": 1}

PANELS: dict[CourseName, Panel] = {
    "validation_clean": Panel("clean accuracy, %", 2),
    "validation_pgd": Panel("robustness under C&W, %", 2),
}
TESTED: dict[CourseName, QuantityName] = {"validation_clean": "accuracy", "validation_pgd": "robustness_cw"}
"""What the same is called of test images."""


def run(job: Job, spec: CoursesStage) -> dict[str, Any]:
    """Publish the figure: a panel a quantity, a curve a method over the epochs, and the last weights on test images.

    Returns:
        title, number of points, and for each claim what was found and whether this run agrees.
    """
    runs = {series.method: [Run(job, run) for run in series.level] for series in spec.series}
    curves = {method: course_of(own, spec.quantities) for method, own in runs.items()}
    panels: dict[str, Panel] = {name: PANELS[name] for name in spec.quantities}
    judged = judge_curves(spec.claims, curves, panels, place=nearest_epoch, where="at epoch")
    course = lines_of(curves, spec.quantities, over="epoch").assign(images="validation")
    tested = lines_of(_tested(job, spec), spec.quantities, over="epoch").assign(images="test")
    data = pd.concat([course, tested]) if len(tested) else course
    figure = draw_curves(course, panels, over="epoch", axis="epoch", heading=runs_in_words(course))
    _mark_tested(figure, tested, spec.quantities)
    every = [run for own in runs.values() for run in own]
    caption = [spec.title, shown_in_words(f"{runs_in_words(course)}, on validation images", every), HOW]
    publish_figure(job, figure, data, [*caption, *sentences(judged)])
    return {"title": spec.title, "points": len(data), "claims": [asdict(one) for one in judged]}


HOW = (
    "Lines: averaged weights on real images that were held out from training, clean and under PGD on the C&W margin. "
    "Hollow markers at the end: the last weights on test images."
)


def course_of(runs: Sequence[Run], names: Sequence[CourseName]) -> Curve:
    """What was validated of some runs, in percent, over the epochs after which all of them were."""
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
    names = [TESTED[name] for name in spec.quantities]
    found = {series.method: cells_of(job, series.level, names, chance=0) for series in spec.series}
    return {
        method: Curve({}, level={name: cells[TESTED[name]] for name in spec.quantities})
        for method, cells in found.items()
    }


def _mark_tested(figure: Figure, tested: pd.DataFrame, names: Sequence[CourseName]) -> None:
    """A hollow marker for each method at the right end of its panel, a little apart from the others."""
    panels: list[Axes] = figure.axes
    for axes, quantity in zip(panels, names, strict=True):
        end = axes.get_xlim()[1]
        step = (end - axes.get_xlim()[0]) * 0.02
        series = tested[tested["quantity"] == quantity] if len(tested) else tested
        for number, (mean, half) in enumerate(zip(series.get("mean", ()), series.get("ci95", ()), strict=True)):
            style = Series.numbered(number)
            at = end + number * step
            axes.errorbar(at, mean, half, color=style.color, marker=style.marker, mfc="white", elinewidth=0.8)
