"""t-SNE of images before and after pruning (Kaufmann et al. v1, Figure 8; v2, Figure 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
from pydantic import Field

from robustprune.core.job import Job
from robustprune.core.marks import Ref
from robustprune.core.settings import Line, Settings
from robustprune.core.stage import StageId
from robustprune.experiments.figures.figure import (
    COLORS,
    FigureEntry,
    FigureStage,
    Panel,
    figure_form,
    new_panels,
    publish_figure,
)
from robustprune.experiments.studies.tsne_classes import (
    LAYOUT_FILE,
    TsneSettings,
    classes_with_area,
    density,
    purity,
    separation,
)
from robustprune.experiments.tables.forms import LayoutRow

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustprune.planning.context import Context

DEFINITION = {"figures.layouts": 5}

MORE_COLORS = ("#999999", "#882255")  # beyond the palette, for ten classes; each also has its number in its middle


MEASURES = {
    "purity": Panel("neighbours of the same class, %", 1),
    "density": Panel("density, images per unit area", 0),
    "separation": Panel("separation, squared distance to the nearest centroid", 2),
}


@figure_form("layouts")
class TsnePanels(FigureEntry):
    """t-SNE of all real images, or of those that a training keeps when it prunes; a panel a row."""

    form: Literal["layouts"]
    claim: Line = Field(description="the paper's claim")
    rows: tuple[LayoutRow, ...] = Field(min_length=1)

    def plan(self, name: str, context: Context) -> str:
        config, panels = context.config, []
        for row in self.rows:
            layouts = tuple(context.layout(row, seed) for seed in config.seeds)
            panels.append(TsnePanel(method=row.method, layouts=layouts))
        return context.add(
            TsnePanelsStage(name=name, title=self.title, claim=self.claim, rows=tuple(panels), settings=config.layout)
        )


class TsnePanel(Settings):
    """A panel: the t-SNE layout of its images for each seed."""

    method: str
    layouts: tuple[Annotated[StageId, Ref("layouts")], ...] = Field(min_length=1)


class TsnePanelsStage(FigureStage):
    """t-SNE of images, a panel for each row."""

    form: Literal["layouts"] = "layouts"
    claim: str
    rows: tuple[TsnePanel, ...] = Field(min_length=1)
    settings: TsneSettings

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: a panel a row, its classes told apart by number and colour; the first seed's layout."""
        import pandas as pd

        layouts = {
            row.method: [pd.read_parquet(job.upstream("layouts", stage) / LAYOUT_FILE) for stage in row.layouts]
            for row in self.rows
        }
        shown = pd.concat({method: seeds[0] for method, seeds in layouts.items()}, names=["panel"]).reset_index("panel")
        caption = [self.title, *_sentences(layouts, self)]
        publish_figure(job, _draw(shown, self), shown.round({"x": 3, "y": 3}), caption)
        return {"title": self.title, "images": len(shown)}


def measures_of(layout: pd.DataFrame, density_images: int) -> dict[str, float]:
    """Return each of MEASURES for a layout with columns label, x, y; NaN for one that it does not have."""
    points, labels = layout[["x", "y"]].to_numpy(), layout["label"].to_numpy()
    classes = classes_with_area(points, labels)
    return {
        "purity": 100 * purity(points, labels),
        "density": density(classes, density_images) or np.nan,
        "separation": separation(classes),
    }


def _draw(shown: pd.DataFrame, spec: TsnePanelsStage) -> Figure:
    figure, panels = new_panels(1, len(spec.rows), width=3.2, height=3.4)
    reach = 1.05 * float(np.abs(shown[["x", "y"]].to_numpy()).max())
    palette = (*COLORS, *MORE_COLORS)
    colors = {label: palette[number % len(palette)] for number, label in enumerate(np.unique(shown["label"]))}
    for axes, row in zip(panels[0], spec.rows, strict=True):
        images = shown[shown["panel"] == row.method]
        _draw_classes(axes, images, colors)
        axes.set(title=f"{row.method},\n{len(images):,} images", xlabel="first axis of t-SNE", aspect="equal")
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
    panels[0][0].set_ylabel("second axis, standard deviations")
    return figure


def _draw_classes(axes: Axes, layout: pd.DataFrame, colors: Mapping[int, str]) -> None:
    for label, images in layout.groupby("label"):
        color = colors[cast(int, label)]
        axes.scatter(images["x"], images["y"], s=4, color=color, linewidths=0, rasterized=True)
        box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": color, "alpha": 0.85}
        x, y = images["x"].median(), images["y"].median()
        axes.text(x, y, str(label), ha="center", va="center", fontsize=8, bbox=box, zorder=3)


def _sentences(layouts: dict[str, list[pd.DataFrame]], spec: TsnePanelsStage) -> Iterator[str]:
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
    for method, of_method in layouts.items():
        measured = pd.DataFrame([measures_of(layout, spec.settings.density_images) for layout in of_method])
        means = "; ".join(
            f"{measure.label} {Summary.of(measured[name].tolist()).told(measure.decimals)}"
            for name, measure in MEASURES.items()
            if measured[name].notna().all()
        )
        yield f"Measured, {method}: {means}."
    if seeds > 1:
        yield f"Means and 95 % intervals over {seeds} seeds."
