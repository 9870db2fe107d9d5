"""Decision boundaries of the toy model, and the points that pruning drops (Kaufmann et al. v1, Fig. 6; v2, Fig. 1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from robustprune.core.job import Job
from robustprune.core.marks import Ref
from robustprune.core.settings import Line
from robustprune.core.stage import StageId
from robustprune.experiments.figures.figure import (
    FigureEntry,
    FigureStage,
    SeriesStyle,
    figure_form,
    in_words,
    legend_below,
    new_panels,
    open_study,
    publish_figure,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustprune.experiments.studies.toy_2d import ToySettings
    from robustprune.planning.context import Context

DEFINITION = {"figures.clouds": 3}

NAMES = {
    "none": "nothing dropped",
    "random": "random points dropped",
    "low_distance": "points near the boundary dropped",
    "low_loss": "points of low loss dropped",
    "high_loss": "points of high loss dropped",
}
Dropped = Annotated[str, in_words(NAMES)]

MEASURES = {
    "label_noise": "points trained on that are on the wrong side of the best line",
    "disagreement": "test points on which network and best line differ",
    "accuracy": "accuracy",
    "robustness": "robustness (PGD)",
}


@figure_form("clouds")
class ToyBoundaries(FigureEntry):
    """Decision boundaries of the toy model in two dimensions, with and without pruning."""

    form: Literal["clouds"]
    claim: Line = Field(description="the paper's claim")
    panels: tuple[Dropped, ...] = Field(min_length=1, description="the points that are dropped, a panel each")

    def plan(self, name: str, context: Context) -> str:
        study = context.add(context.config.clouds.study())
        return context.add(
            ToyBoundariesStage(name=name, title=self.title, claim=self.claim, panels=self.panels, study=study)
        )


class ToyBoundariesStage(FigureStage):
    """Decision boundaries of the toy model, and the points that pruning drops."""

    form: Literal["clouds"] = "clouds"
    claim: str
    panels: tuple[Dropped, ...] = Field(min_length=1)
    study: Annotated[StageId, Ref("studies")]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: for each strategy the points, those dropped, and the decision boundary."""
        study, (points, field, measures) = open_study(job, self.study)
        shown = points[["x", "y", "label", "loss", "distance", *(drop for drop in self.panels if drop != "none")]]
        figure = _draw(points, field, self.panels, study.settings)
        sentences = _sentences(measures, self.panels, study.settings)
        publish_figure(job, figure, shown.round(4), [self.title, f"Claimed: {self.claim}.", *sentences])
        return {"title": self.title, "points": len(shown)}


def _draw(points: pd.DataFrame, field: pd.DataFrame, panels: tuple[str, ...], settings: ToySettings) -> Figure:
    figure, axes = new_panels(1, len(panels), width=3.4, height=3.3)
    for panel, letter, dropped in zip(axes[0], "abcde"[: len(panels)], panels, strict=True):
        _draw_points(panel, points, dropped)
        _draw_boundary(panel, field, dropped)
        panel.set(title=f"{letter}. {NAMES[dropped]}", xlabel="first coordinate", aspect="equal")
        panel.set(xlim=(0, 1), ylim=(0, 1))
    axes[0][0].set_ylabel("second coordinate")
    figure.suptitle(
        f"a network trained on two clouds by RS-FGSM, ε = {settings.epsilon:g}, {settings.keep:.0%} of the points kept "
        f"after {settings.steps_before} of {settings.steps_before + settings.steps_after} steps",
        fontsize=9,
    )
    legend_below(figure, axes[0][-1], columns=5)
    return figure


def _draw_points(axes: Axes, points: pd.DataFrame, dropped: str) -> None:
    for label in (0, 1):
        style, cloud = SeriesStyle.numbered(1 + label), points[points["label"] == label]
        kept = cloud[cloud[dropped]]
        drawn: dict[str, Any] = {"marker": style.marker, "color": style.color, "label": f"class {label}"}
        axes.scatter(kept["x"], kept["y"], s=9, linewidths=0, **drawn)
    gone = points[~points[dropped]]
    axes.scatter(gone["x"], gone["y"], s=12, marker="x", color="0.6", linewidths=0.7, label="dropped")


def _draw_boundary(axes: Axes, field: pd.DataFrame, dropped: str) -> None:
    """Draw the network's boundary at the end of the training, and the best one, a line in the middle."""
    side = round(len(field) ** 0.5)
    x, y, gap = (field[name].to_numpy().reshape(side, side) for name in ("x", "y", dropped))
    axes.contour(x, y, gap, levels=[0], colors="black", linewidths=1.6)
    axes.plot([], [], color="black", linewidth=1.6, label="the network's boundary")
    axes.axvline(0.5, color="black", linestyle=":", linewidth=1, label="the best boundary")


def _sentences(measures: pd.DataFrame, panels: tuple[str, ...], settings: ToySettings) -> Iterator[str]:
    yield (
        f"Two normal clouds of {settings.points // 2} points, means {settings.distance:g} and standard deviation "
        f"{settings.spread:g}, so that the line half-way is best; shown is the first of {settings.trials} trials. "
        "What is dropped is told by the network of that moment: by DeepFool's distance in L2, or by the cross-entropy "
        "after a step of RS-FGSM."
    )
    for drop in panels:
        rows = measures[measures["dropped"] == drop]
        means = "; ".join(f"{name} {_percent(rows[measure])}" for measure, name in MEASURES.items())
        yield f"Measured, {NAMES[drop]}, mean and 95 % interval over the trials: {means}."
    for drop in (drop for drop in panels if drop not in ("none", "random")):
        changes = "; ".join(f"{name} {_change(measures, drop, measure)}" for measure, name in MEASURES.items())
        yield f"Against as many random points dropped, {NAMES[drop]}: {changes}."


def _percent(values: Any) -> str:
    from robustprune.experiments.statistics import Summary

    return f"{Summary.of((100 * np.asarray(values)).tolist()).told(1)} %"


def _change(measures: pd.DataFrame, drop: str, measure: str) -> str:
    """Return the difference from dropping at random in percentage points, trial by trial."""
    from robustprune.experiments.statistics import Summary

    first, second = (100 * measures.loc[measures["dropped"] == name, measure].to_numpy() for name in (drop, "random"))
    return Summary.of((first - second).tolist()).told(1, sign="+")
