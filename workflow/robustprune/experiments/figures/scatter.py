"""Two scores of the same images against each other, the second as a prediction of the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.experiments.figures.figure import COLORS, FigureStage, figure_form, legend_below, new_panels
from robustprune.experiments.figures.measures import (
    Compared,
    FigureOfScores,
    MeasureClaim,
    Measured,
    Scores,
    ScoreSeries,
    defined,
    measures_in_words,
    plan_scores,
    plan_seeds,
    publish_measured,
    read_scores,
    refuse_unlike,
    scored_pools,
)
from robustprune.experiments.row import Row

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from robustprune.planning.context import Context

DEFINITION = {"figures.scatter": 2}

BINS = 50  # of each score
LIGHTEST = 0.3  # images of a cell in the lightest grey, so that one image is visible


@figure_form("scatter")
class Scatter(FigureOfScores):
    """Two scores of the same images, the second as a prediction of the first."""

    measures = ("mae", "slope", "spread", "mae_ratio", "correlation", "rank_correlation")
    form: Literal["scatter"]
    first: Row = Field(description="the method whose score is the truth")
    second: Row = Field(description="the method whose score is the prediction")

    @property
    def measured(self) -> tuple[str, ...]:
        return (self.second.method,)

    def plan(self, name: str, context: Context) -> str:
        """Plan the figure's stage and return its id. Raises UserError for what the configuration does not allow."""
        (first, second), *again = plan_seeds(
            context, self.claims, lambda seeded: (plan_scores(seeded, self.first), plan_scores(seeded, self.second))
        )
        pools = [scored_pools(context, series) for series in (first, second)]
        if pools[0] != pools[1]:
            raise UserError(f"{first.method!r} and {second.method!r} score other images: {pools[0]} and {pools[1]}")
        return context.add(
            ScatterStage(
                name=name, title=self.title, first=first, second=second, again=tuple(again), claims=self.claims
            )
        )


class ScatterStage(FigureStage):
    """Two scores of the same images."""

    form: Literal["scatter"] = "scatter"
    first: ScoreSeries
    second: ScoreSeries
    again: tuple[tuple[ScoreSeries, ScoreSeries], ...] = Field(
        (), description="the same by the trainings of the other seeds"
    )
    claims: tuple[MeasureClaim, ...]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: a two-dimensional histogram of both scores, and the diagonal.

        Returns:
            title, the measures, and for each claim its checks in words and its verdict.

        Raises:
            UserError: when a store of scores is damaged, scores are not of the same images, or none is finite.
        """
        seeds: list[dict[str, Measured]] = []
        for pair in (*self.again, (self.first, self.second)):  # the first seed's, which are shown, last
            first, second = _finite(job, *pair)
            seeds.insert(0, {self.second.method: defined(Scatter.measures, Compared(second, first))})
        data = _cells(first, second)
        shown = f"Measured of n = {len(first):,} images: {measures_in_words(seeds[0][self.second.method])}."
        return publish_measured(job, self, _draw(self, first, second), data, [shown], seeds)


def _finite(job: Job, first: ScoreSeries, second: ScoreSeries) -> tuple[Scores, Scores]:
    """Return two scores of the images that have finite ones by both."""
    ours, others = (read_scores(job, series.scores) for series in (first, second))
    refuse_unlike(ours, others, names=(first.method, second.method))
    finite = np.isfinite(ours) & np.isfinite(others)
    if not finite.any():
        raise UserError(f"no image has finite scores by both {first.method} and {second.method}")
    return ours[finite], others[finite]


def _cells(first: Scores, second: Scores) -> pd.DataFrame:
    """Return a row a cell that is not empty: its edges, and its number of images."""
    import pandas as pd

    counts, first_edges, second_edges = np.histogram2d(first, second, bins=BINS)
    rows, columns = np.nonzero(counts)
    firsts = {"first_low": first_edges[rows], "first_high": first_edges[rows + 1]}
    seconds = {"second_low": second_edges[columns], "second_high": second_edges[columns + 1]}
    return pd.DataFrame({**firsts, **seconds, "images": counts[rows, columns].astype(int)})


def _draw(spec: ScatterStage, first: Scores, second: Scores) -> Figure:
    from matplotlib.colors import LogNorm

    figure, panels = new_panels(1, 1, width=4.4, height=3.6)
    axes = panels[0][0]
    counts, *edges = np.histogram2d(first, second, bins=BINS)
    shades = LogNorm(LIGHTEST, max(2, counts.max()))
    image = axes.pcolormesh(*edges, np.ma.masked_equal(counts.T, 0), norm=shades, cmap="Greys", rasterized=True)
    bar = figure.colorbar(image, ax=axes, label="images in a cell")
    ticks = np.unique(np.geomspace(1, counts.max(), 4).round()).astype(int)
    bar.ax.set_ylim(1, None)
    bar.ax.minorticks_off()
    bar.set_ticks(ticks.tolist(), labels=[f"{tick:,}" for tick in ticks])
    ends = np.array([first.min(), first.max()])
    axes.plot(ends, ends, color=COLORS[6], label="both the same")
    if np.ptp(first) > 0:
        slope, shift = np.polyfit(first.astype(np.float64), second.astype(np.float64), 1)
        axes.plot(ends, slope * ends + shift, color=COLORS[2], linestyle="--", label="best straight line")
    axes.axhline(float(second.mean()), color=COLORS[3], linestyle=":", label="mean")
    axes.set(xlabel=spec.first.method, ylabel=spec.second.method)
    legend_below(figure, axes, columns=3)
    return figure
