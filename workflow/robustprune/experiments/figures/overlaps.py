"""The images that two ways to prune both drop (papers.md, N11: by all measures in use)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from robustprune.core.job import Job
from robustprune.core.settings import Line, Settings
from robustprune.core.stage import ManifestId
from robustprune.experiments.figures.figure import FigureStage, figure_form, legend_below, new_panels
from robustprune.experiments.figures.measures import (
    FigureOfScores,
    MeasureClaim,
    defined,
    measure,
    measures_in_words,
    plan_seeds,
    publish_measured,
)
from robustprune.experiments.row import Row

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from robustprune.planning.context import Context
    from robustprune.pruning.overlap import Agreement, Overlap

DEFINITION = {"figures.overlaps": 2}

PARTS = {
    "first_alone": ("dropped by {first} alone", "#56B4E9", "///"),
    "both": ("by both", "#0072B2", ""),
    "second_alone": ("by {second} alone", "#E69F00", "..."),
    "neither": ("by neither", "white", ""),
}
"""Label, colour and hatch of each part of the images."""


@measure("same_decision", words="share of the images with the same decision")
def same_decision(dropped: Agreement) -> float:
    """Return the share of all images that both drop or both keep."""
    return dropped.same_decision


@measure("of_first", words="share of the first's dropped images that the second drops, too")
def share_of_first(dropped: Agreement) -> float:
    """Return the share of the images dropped by the first that the second drops."""
    return dropped.of_first


@measure("jaccard", words="dropped by both, of those dropped by either")
def jaccard(dropped: Agreement) -> float:
    """Return the intersection of the dropped images over their union."""
    return dropped.jaccard


@measure("of_all", words="dropped by both, of all images")
def share_of_all(dropped: Agreement) -> float:
    """Return the share of all images that both drop."""
    return dropped.of_all


class OverlapPair(Settings):
    """Two methods that prune the same images."""

    method: Line = Field(description="the pair's name")
    first: Row
    second: Row

    @model_validator(mode="after")
    def _both_prune(self) -> OverlapPair:
        if idle := [row.method for row in (self.first, self.second) if row.strategy == "none"]:
            raise ValueError(f"{idle[0]!r} drops no image; give it a strategy")
        return self


@figure_form("overlaps")
class Overlaps(FigureOfScores):
    """The images that two methods both drop."""

    measures = ("same_decision", "of_first", "jaccard", "of_all")
    form: Literal["overlaps"]
    pairs: tuple[OverlapPair, ...] = Field(min_length=1, description="a bar each")

    @property
    def measured(self) -> tuple[str, ...]:
        return tuple(pair.method for pair in self.pairs)

    def plan(self, name: str, context: Context) -> str:
        """Plan the figure's stage and return its id. Raises UserError for what the configuration does not allow."""
        pairs, *again = plan_seeds(context, self.claims, self._pairs)
        return context.add(
            OverlapsStage(name=name, title=self.title, pairs=pairs, again=tuple(again), claims=self.claims)
        )

    def _pairs(self, context: Context) -> tuple[ManifestPair, ...]:
        return tuple(
            ManifestPair(
                method=pair.method,
                names=(pair.first.method, pair.second.method),
                first=context.manifest(pair.first, None),
                second=context.manifest(pair.second, None),
            )
            for pair in self.pairs
        )


class ManifestPair(Settings):
    """Two manifests that choose from the same images, and the names of the methods behind them."""

    method: str
    names: tuple[str, str]
    first: ManifestId
    second: ManifestId


class OverlapsStage(FigureStage):
    """The images that two ways to prune both drop."""

    form: Literal["overlaps"] = "overlaps"
    pairs: tuple[ManifestPair, ...] = Field(min_length=1)
    again: tuple[tuple[ManifestPair, ...], ...] = Field((), description="the same by the trainings of the other seeds")
    claims: tuple[MeasureClaim, ...]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: a bar a pair, cut by who drops the images. Raises UserError for unusable manifests."""
        import pandas as pd

        from robustprune.pruning.overlap import overlap_of

        def overlaps_of(pairs: tuple[ManifestPair, ...]) -> list[Overlap]:
            return [
                overlap_of(*(job.upstream("manifests", stage) for stage in (pair.first, pair.second))) for pair in pairs
            ]

        overlaps = overlaps_of(self.pairs)
        data = pd.DataFrame([_row(pair, overlap) for pair, overlap in zip(self.pairs, overlaps, strict=True)])
        seeds = [
            {
                pair.method: defined(Overlaps.measures, overlap.dropped)
                for pair, overlap in zip(self.pairs, of_seed, strict=True)
            }
            for of_seed in (overlaps, *map(overlaps_of, self.again))
        ]
        shown = [
            f"{pair.method}, {pair.names[0]} (the first) and {pair.names[1]} (the second), "
            f"n = {overlap.images:,} images: {measures_in_words(seeds[0][pair.method])}."
            for pair, overlap in zip(self.pairs, overlaps, strict=True)
        ]
        return publish_measured(job, self, _draw(data), data, shown, seeds)


def _row(pair: ManifestPair, overlap: Overlap) -> dict[str, Any]:
    """Return the row of a pair: its images by who drops them, and the measures of the dropped ones."""
    dropped, images = overlap.dropped, overlap.images
    both = round(dropped.of_all * images)
    alone = [images - kept - both for kept in overlap.kept_images]
    counts = {"both": both, "first_alone": alone[0], "second_alone": alone[1], "neither": images - both - sum(alone)}
    first, second = pair.names
    return {"pair": pair.method, "images": images, **counts, **asdict(dropped), "first": first, "second": second}


def _draw(data: pd.DataFrame) -> Figure:
    figure, panels = new_panels(1, 1, width=6.4, height=0.7 + 0.6 * len(data))
    axes = panels[0][0]
    left, box = np.zeros(len(data)), {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    same_names = len(data[["first", "second"]].drop_duplicates()) == 1
    first, second = data[["first", "second"]].iloc[0] if same_names else ("the first", "the second")
    for part, (label, color, hatch) in PARTS.items():
        share = 100 * (data[part] / data["images"]).to_numpy()
        named = label.format(first=first, second=second)
        bars = axes.barh(data["pair"], share, left=left, color=color, edgecolor="black", hatch=hatch, label=named)
        axes.bar_label(bars, [f"{value:.0f} %" for value in share], label_type="center", bbox=box)
        left += share
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set(xlabel="images, %", xlim=(0, 100))
    legend_below(figure, axes, columns=4)
    return figure
