"""Which images two ways to prune both drop (papers.md, N11: by all measures in use)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from robustprune.core.job import Job
from robustprune.core.settings import Line, Settings
from robustprune.core.stage import ManifestId
from robustprune.experiments.figures.figure import FigureStage, figure
from robustprune.experiments.figures.of_scores import FigureOfScores, MeasureClaim, MeasureName
from robustprune.experiments.row import Row

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from robustprune.planning.context import Context


DEFINITION = {"figures.overlaps": 2}

PARTS = {
    "first_alone": ("dropped by {first} alone", "#56B4E9", "///"),
    "both": ("by both", "#0072B2", ""),
    "second_alone": ("by {second} alone", "#E69F00", "..."),
    "neither": ("by neither", "white", ""),
}

"""Label and filling of each part of the images, in the palette of ``figures.style``."""

BOX = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}


class ManifestPair(Settings):
    """Two manifests that choose from the same images, and what the methods behind them are called."""

    method: str
    names: tuple[str, str]
    first: ManifestId
    second: ManifestId


class OverlapsStage(FigureStage):
    """Which images two ways to prune both drop."""

    form: Literal["overlaps"] = "overlaps"
    pairs: tuple[ManifestPair, ...] = Field(min_length=1)
    claims: tuple[MeasureClaim, ...]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: a bar for each pair of manifests, cut by who drops the images.

        Returns:
            title, the measures of each pair, and for each claim what was found and whether this run agrees.

        Raises:
            UserError: when a manifest is not readable, or two choose from other images.
        """
        import pandas as pd

        from robustprune.experiments.claims import sentences
        from robustprune.experiments.figures.measures import judge_measures, measures_in_words
        from robustprune.experiments.figures.scores import ONE_TRAINING
        from robustprune.experiments.figures.style import publish_figure

        data = pd.DataFrame(
            [
                {
                    "pair": pair.method,
                    **_row(job, pair.first, pair.second),
                    "first": pair.names[0],
                    "second": pair.names[1],
                }
                for pair in self.pairs
            ]
        )
        measured = {str(row["pair"]): _measures(row) for row in data.to_dict("records")}
        judged = judge_measures(self.claims, measured)
        shown = [
            f"{pair.method}, {pair.names[0]} (the first) and {pair.names[1]} (the second), "
            f"n = {int(data['images'].iloc[number]):,} images: {measures_in_words(measured[pair.method])}."
            for number, pair in enumerate(self.pairs)
        ]
        publish_figure(job, _draw(data), data, [self.title, *shown, ONE_TRAINING, *sentences(judged)])
        return {"title": self.title, "measured": measured, "claims": [asdict(one) for one in judged]}


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


@figure("overlaps")
class Overlaps(FigureOfScores):
    """Which images two methods both drop."""

    measures = ("same_decision", "of_first", "jaccard", "of_all")
    form: Literal["overlaps"]
    pairs: tuple[OverlapPair, ...] = Field(min_length=1, description="a bar each")

    @property
    def measured(self) -> tuple[str, ...]:
        """The pairs."""
        return tuple(pair.method for pair in self.pairs)

    def plan(self, context: Context, name: str) -> str:
        """Plan the self's stage and what it reads, and return its id."""
        pairs = tuple(
            ManifestPair(
                method=pair.method,
                names=(pair.first.method, pair.second.method),
                first=context.manifest(pair.first, None),
                second=context.manifest(pair.second, None),
            )
            for pair in self.pairs
        )
        return context.add(OverlapsStage(name=name, title=self.title, pairs=pairs, claims=self.claims))


def _row(job: Job, first: str, second: str) -> dict[str, float]:
    from robustprune.pruning.overlap import overlap_of

    overlap = overlap_of(*(job.upstream("manifests", stage) for stage in (first, second)))
    dropped, images = overlap.dropped, overlap.images
    both = round(dropped.of_all * images)
    alone = [images - kept - both for kept in overlap.kept_images]
    counts = {"both": both, "first_alone": alone[0], "second_alone": alone[1], "neither": images - both - sum(alone)}
    return {"images": images, **counts, **asdict(dropped)}


def _measures(row: Mapping[Any, Any]) -> dict[MeasureName, float]:
    names: tuple[MeasureName, ...] = ("same_decision", "of_first", "jaccard", "of_all")
    return {name: float(row[name]) for name in names}


def _draw(data: pd.DataFrame) -> Figure:
    from robustprune.experiments.figures.style import legend_below, new_panels

    figure, panels = new_panels(1, 1, width=6.4, height=0.7 + 0.6 * len(data))
    axes = panels[0][0]
    left = np.zeros(len(data))
    alike = len(data[["first", "second"]].drop_duplicates()) == 1
    first, second = data[["first", "second"]].iloc[0] if alike else ("the first", "the second")
    for part, (label, color, hatch) in PARTS.items():
        share = 100 * (data[part] / data["images"]).to_numpy()
        named = label.format(first=first, second=second)
        bars = axes.barh(data["pair"], share, left=left, color=color, edgecolor="black", hatch=hatch, label=named)
        axes.bar_label(bars, [f"{value:.0f} %" for value in share], label_type="center", bbox=BOX)
        left += share
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set(xlabel="images, %", xlim=(0, 100))
    legend_below(figure, axes, columns=4)
    return figure
