"""Two clouds in a plane, the boundary between them, and what pruning drops (Kaufmann et al. v1, Fig. 6; v2, Fig. 1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
from pydantic import Field

from robustprune.core.job import Job
from robustprune.core.marks import Ref
from robustprune.core.paths import FIELD_FILE, MEASURES_FILE, POINTS_FILE
from robustprune.core.settings import Line
from robustprune.core.stage import StageId
from robustprune.core.stage_file import read_spec
from robustprune.experiments.figures.figure import FigureForm, FigureStage, figure
from robustprune.experiments.studies.clouds import CloudsStage
from robustprune.experiments.studies.settings import GRID, CloudPruning, CloudSettings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustprune.planning.context import Context


DEFINITION = {"figures.clouds": 2}

NAMES: dict[CloudPruning, str] = {
    "none": "nothing dropped",
    "random": "random points dropped",
    "low_distance": "points near the boundary dropped",
    "low_loss": "points of low loss dropped",
    "high_loss": "points of high loss dropped",
}

MEASURES = {
    "label_noise": "points trained on that are on the wrong side of the best line",
    "disagreement": "test points on which network and best line differ",
    "accuracy": "accuracy",
    "robustness": "robustness (PGD)",
}


class CloudsFigureStage(FigureStage):
    """Two clouds in a plane, and what pruning drops of them."""

    form: Literal["clouds"] = "clouds"
    claim: str
    panels: tuple[CloudPruning, ...] = Field(min_length=1)
    study: Annotated[StageId, Ref("studies")]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: for each strategy the points, those dropped, and the decision boundary."""
        import pandas as pd

        from robustprune.experiments.figures.style import publish_figure

        directory = job.upstream("studies", self.study)
        study = cast("CloudsStage", read_spec(directory))
        if getattr(study, "study", None) != "clouds":
            raise TypeError(f"{self.study} is no study of clouds")
        points, field, measures = (
            pd.read_parquet(directory / name) for name in (POINTS_FILE, FIELD_FILE, MEASURES_FILE)
        )
        shown = points[["x", "y", "label", "loss", "distance", *(way for way in self.panels if way != "none")]]
        figure = _draw(points, field, self.panels, study.settings)
        sentences = _sentences(measures, self.panels, study.settings)
        publish_figure(job, figure, shown.round(4), [self.title, f"Claimed: {self.claim}.", *sentences])
        return {"title": self.title, "points": len(shown)}


@figure("clouds")
class CloudsFigure(FigureForm):
    """Two clouds in a plane, and the boundary between them with and without pruning."""

    form: Literal["clouds"]
    claim: Line = Field(description="what the paper says of it")
    panels: tuple[CloudPruning, ...] = Field(min_length=1, description="what is dropped, a panel each")

    def plan(self, context: Context, name: str) -> str:
        """Plan the self's stage and what it reads, and return its id."""
        study = context.add(CloudsStage(settings=context.config.clouds))
        return context.add(
            CloudsFigureStage(name=name, title=self.title, claim=self.claim, panels=self.panels, study=study)
        )


def _draw(
    points: pd.DataFrame, field: pd.DataFrame, panels: tuple[CloudPruning, ...], settings: CloudSettings
) -> Figure:
    from robustprune.experiments.figures.style import legend_below, new_panels

    figure, axes = new_panels(1, len(panels), width=3.4, height=3.3)
    for own, (letter, dropped) in zip(axes[0], zip("abcde", panels, strict=False), strict=True):
        _draw_points(own, points, dropped)
        _draw_boundary(own, field, dropped)
        own.set(title=f"{letter}. {NAMES[dropped]}", xlabel="first coordinate", aspect="equal")
        own.set(xlim=(0, 1), ylim=(0, 1))
    axes[0][0].set_ylabel("second coordinate")
    figure.suptitle(
        f"a network trained on two clouds by RS-FGSM, ε = {settings.epsilon:g}, {settings.keep:.0%} of the points kept "
        f"after {settings.steps_before} of {settings.steps_before + settings.steps_after} steps",
        fontsize=9,
    )
    legend_below(figure, axes[0][-1], columns=5)
    return figure


def _draw_points(axes: Axes, points: pd.DataFrame, dropped: CloudPruning) -> None:
    from robustprune.experiments.figures.style import Series

    for label in (0, 1):
        style, cloud = Series.numbered(1 + label), points[points["label"] == label]
        kept = cloud[cloud[dropped]]
        axes.scatter(
            kept["x"], kept["y"], s=9, marker=style.marker, color=style.color, label=f"class {label}", linewidths=0
        )
    gone = points[~points[dropped]]
    axes.scatter(gone["x"], gone["y"], s=12, marker="x", color="0.6", linewidths=0.7, label="dropped")


def _draw_boundary(axes: Axes, field: pd.DataFrame, dropped: CloudPruning) -> None:
    """The boundary of the network at the end of the training; the best one is the line in the middle."""
    x, y, gap = (field[name].to_numpy().reshape(GRID, GRID) for name in ("x", "y", dropped))
    axes.contour(x, y, gap, levels=[0], colors="black", linewidths=1.6)
    axes.plot([], [], color="black", linewidth=1.6, label="the network's boundary")
    axes.axvline(0.5, color="black", linestyle=":", linewidth=1, label="the best boundary")


def _sentences(measures: pd.DataFrame, panels: tuple[CloudPruning, ...], settings: CloudSettings) -> Iterator[str]:
    yield (
        f"Two normal clouds of {settings.points // 2} points, means {settings.distance:g} and standard deviation "
        f"{settings.spread:g}, so that the line half-way is best; shown is the first of {settings.trials} trials. "
        "What is dropped is told by the network of that moment: by DeepFool's distance in L2, or by the cross-entropy "
        "after a step of RS-FGSM."
    )
    for way in panels:
        own = measures[measures["dropped"] == way]
        told = "; ".join(f"{name} {_percent(own[measure])}" for measure, name in MEASURES.items())
        yield f"Measured, {NAMES[way]}, mean and 95 % interval over the trials: {told}."
    control: CloudPruning = "random"
    for way in (way for way in panels if way not in ("none", control)):
        changes = "; ".join(f"{name} {_change(measures, way, control, measure)}" for measure, name in MEASURES.items())
        yield f"Against as many random points dropped, {NAMES[way]}: {changes}."


def _percent(values: Any) -> str:
    from robustprune.experiments.statistics import Summary

    return f"{Summary.of((100 * np.asarray(values)).tolist()).told(1)} %"


def _change(measures: pd.DataFrame, way: str, control: str, measure: str) -> str:
    """Difference of two ways in percentage points, trial by trial."""
    from robustprune.experiments.statistics import paired_difference

    first, second = (
        dict(enumerate((100 * measures.loc[measures["dropped"] == name, measure]).tolist())) for name in (way, control)
    )
    return paired_difference(first, second).told(1, sign="+")
