"""Images in a plane before and after pruning (Kaufmann et al. v1, Figure 8; v2, Figure 2)."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustprune.core.job import Job
from robustprune.experiments.figures.specs import LayoutFigureStage
from robustprune.experiments.figures.style import COLORS, new_panels, publish_figure
from robustprune.experiments.layouts.measures import classes_with_area, density, purity, separation
from robustprune.experiments.layouts.stage import LAYOUT_FILE
from robustprune.experiments.statistics import Summary

DEFINITION = {"figures.layouts": 4}

CLASS_COLORS = (*COLORS, "#999999", "#882255")
"""Ten; a class is told by the number in its middle, too."""


class Measure(NamedTuple):
    """Something that is measured of a layout.

    Attributes:
        name: what it is, in words.
        decimals: digits behind the point.
    """

    name: str
    decimals: int


MEASURES = {
    "purity": Measure("neighbours of the same class, %", 1),
    "density": Measure("density, images per unit area", 0),
    "separation": Measure("separation, squared distance to the nearest centroid", 2),
}


def run(job: Job, spec: LayoutFigureStage) -> dict[str, Any]:
    """Publish the figure: a panel a row, its classes told apart by number and colour; the first seed's layout."""
    layouts = {
        row.method: [pd.read_parquet(job.upstream("layouts", stage) / LAYOUT_FILE) for stage in row.layouts]
        for row in spec.rows
    }
    shown = pd.concat([own[0].assign(panel=method) for method, own in layouts.items()])[
        ["panel", "index", "label", "x", "y"]
    ]
    caption = [spec.title, *_sentences(layouts, spec)]
    publish_figure(job, _draw(shown, spec), shown.round({"x": 3, "y": 3}), caption)
    return {"title": spec.title, "images": len(shown)}


def measures_of(layout: pd.DataFrame) -> dict[str, float]:
    """Each of MEASURES for a layout with columns label, x, y."""
    points, labels = layout[["x", "y"]].to_numpy(), layout["label"].to_numpy()
    classes = classes_with_area(points, labels)
    return {
        "purity": 100 * purity(points, labels),
        "density": density(classes),
        "separation": separation(classes),
    }


def _draw(shown: pd.DataFrame, spec: LayoutFigureStage) -> Figure:
    figure, panels = new_panels(1, len(spec.rows), width=3.2, height=3.4)
    reach = 1.05 * float(np.abs(shown[["x", "y"]].to_numpy()).max())
    colors = {label: CLASS_COLORS[number % len(CLASS_COLORS)] for number, label in enumerate(np.unique(shown["label"]))}
    for axes, row in zip(panels[0], spec.rows, strict=True):
        own = shown[shown["panel"] == row.method]
        _draw_classes(axes, own, colors)
        axes.set(title=f"{row.method},\n{len(own):,} images", xlabel="first axis of t-SNE", aspect="equal")
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
    panels[0][0].set_ylabel("second axis, standard deviations")
    return figure


def _draw_classes(axes: Axes, layout: pd.DataFrame, colors: Mapping[int, str]) -> None:
    for label, own in layout.groupby("label"):
        color = colors[cast(int, label)]
        axes.scatter(own["x"], own["y"], s=4, color=color, linewidths=0, rasterized=True)
        box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": color, "alpha": 0.85}
        axes.text(
            own["x"].median(), own["y"].median(), str(label), ha="center", va="center", fontsize=8, bbox=box, zorder=3
        )


def _sentences(layouts: dict[str, list[pd.DataFrame]], spec: LayoutFigureStage) -> Iterator[str]:
    seeds = len(spec.rows[0].layouts)
    yield (
        f"t-SNE (perplexity {spec.settings.perplexity:g}) of the first {spec.settings.components} principal "
        f"components of each panel's images by themselves, both axes brought to standard deviation 1"
        + (f"; the first of {seeds} seeds is shown." if seeds > 1 else ", of one seed.")
        + " Each number is at the median of its class."
    )
    yield f"Claimed: {spec.claim}."
    for method, own in layouts.items():
        found = pd.DataFrame([measures_of(layout) for layout in own])
        told = "; ".join(
            f"{measure.name} {Summary.of(found[name].tolist()).told(measure.decimals)}"
            for name, measure in MEASURES.items()
        )
        yield f"Measured, {method}: {told}."
    if seeds > 1:
        yield f"Means and 95 % intervals over {seeds} seeds."
