"""Images in a plane before and after pruning (Kaufmann et al. v1, Figure 8; v2, Figure 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, cast

import numpy as np
from pydantic import Field

from robustprune.core.job import Job
from robustprune.core.marks import Ref
from robustprune.core.paths import LAYOUT_FILE
from robustprune.core.settings import Line, Settings
from robustprune.core.stage import StageId
from robustprune.experiments.figures.figure import FigureForm, FigureStage, figure
from robustprune.experiments.studies.settings import LayoutSettings
from robustprune.experiments.tables.forms import LayoutRow

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustprune.planning.context import Context


DEFINITION = {"figures.layouts": 4}

MORE_COLORS = ("#999999", "#882255")  # beyond the palette, for ten classes; each also has its number in its middle


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


class LayoutPanel(Settings):
    """A panel of images in a plane: their layout for each seed."""

    method: str
    layouts: tuple[Annotated[StageId, Ref("layouts")], ...] = Field(min_length=1)


class LayoutFigureStage(FigureStage):
    """Images in a plane, a panel each for what is left of them."""

    form: Literal["layouts"] = "layouts"
    claim: str
    rows: tuple[LayoutPanel, ...] = Field(min_length=1)
    settings: LayoutSettings

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: a panel a row, its classes told apart by number and colour; the first seed's layout."""
        import pandas as pd

        from robustprune.experiments.figures.style import publish_figure

        layouts = {
            row.method: [pd.read_parquet(job.upstream("layouts", stage) / LAYOUT_FILE) for stage in row.layouts]
            for row in self.rows
        }
        shown = pd.concat([own[0].assign(panel=method) for method, own in layouts.items()])[
            ["panel", "index", "label", "x", "y"]
        ]
        caption = [self.title, *_sentences(layouts, self)]
        publish_figure(job, _draw(shown, self), shown.round({"x": 3, "y": 3}), caption)
        return {"title": self.title, "images": len(shown)}


@figure("layouts")
class LayoutsFigure(FigureForm):
    """Images in a plane: all real ones, or those that a training keeps in its middle; a panel a row."""

    form: Literal["layouts"]
    claim: Line = Field(description="what the paper says of it")
    rows: tuple[LayoutRow, ...] = Field(min_length=1)

    def plan(self, context: Context, name: str) -> str:
        """Plan the self's stage and what it reads, and return its id."""
        panels = (
            LayoutPanel(method=row.method, layouts=tuple(context.layout(row, seed) for seed in context.config.seeds))
            for row in self.rows
        )
        return context.add(
            LayoutFigureStage(
                name=name, title=self.title, claim=self.claim, rows=tuple(panels), settings=context.config.layout
            )
        )


def measures_of(layout: pd.DataFrame) -> dict[str, float]:
    """Each of MEASURES for a layout with columns label, x, y."""
    from robustprune.experiments.layouts.measures import classes_with_area, density, purity, separation

    points, labels = layout[["x", "y"]].to_numpy(), layout["label"].to_numpy()
    classes = classes_with_area(points, labels)
    return {
        "purity": 100 * purity(points, labels),
        "density": density(classes),
        "separation": separation(classes),
    }


def _draw(shown: pd.DataFrame, spec: LayoutFigureStage) -> Figure:
    from robustprune.experiments.figures.style import COLORS, new_panels

    figure, panels = new_panels(1, len(spec.rows), width=3.2, height=3.4)
    reach = 1.05 * float(np.abs(shown[["x", "y"]].to_numpy()).max())
    palette = (*COLORS, *MORE_COLORS)
    colors = {label: palette[number % len(palette)] for number, label in enumerate(np.unique(shown["label"]))}
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
    import pandas as pd

    from robustprune.experiments.statistics import Summary

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
