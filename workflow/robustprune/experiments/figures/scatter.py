"""Two scores of the same images against each other, the second as a prediction of the first."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.experiments.figures.figure import FigureStage, figure
from robustprune.experiments.figures.of_scores import FigureOfScores, MeasureClaim, ScoreSeries, pools_of, scores_of_row
from robustprune.experiments.row import Row

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from robustprune.planning.context import Context


DEFINITION = {"figures.scatter": 2}

BINS = 50  # of each score

LIGHTEST = 0.3  # images that a cell of the lightest grey would have, so that one image is seen

Scores = npt.NDArray[np.float32]


class ScatterStage(FigureStage):
    """Two scores of the same images."""

    form: Literal["scatter"] = "scatter"
    first: ScoreSeries
    second: ScoreSeries
    claims: tuple[MeasureClaim, ...]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: a two-dimensional histogram of both scores, and the diagonal.

        Returns:
            title, the measures, and for each claim what was found and whether this run agrees.

        Raises:
            UserError: when a store of scores is damaged, scores are not of the same images, or none is finite.
        """
        from robustprune.experiments.claims import sentences
        from robustprune.experiments.figures.measures import judge_measures, measures_in_words, of_prediction
        from robustprune.experiments.figures.scores import ONE_TRAINING, read_scores, refuse_unlike
        from robustprune.experiments.figures.style import publish_figure

        first, second = (read_scores(job, series.scores)[0] for series in (self.first, self.second))
        refuse_unlike(first, second, names=(self.first.method, self.second.method))
        finite = np.isfinite(first) & np.isfinite(second)
        if not finite.any():
            raise UserError(f"no image has finite scores by both {self.first.method} and {self.second.method}")
        first, second = first[finite], second[finite]
        measured = {self.second.method: of_prediction(first, second)}
        judged = judge_measures(self.claims, measured)
        data = _cells(first, second)
        shown = f"Measured of n = {len(first):,} images: {measures_in_words(measured[self.second.method])}."
        publish_figure(job, _draw(self, first, second), data, [self.title, shown, ONE_TRAINING, *sentences(judged)])
        return {"title": self.title, "measured": measured, "claims": [asdict(one) for one in judged]}


@figure("scatter")
class Scatter(FigureOfScores):
    """Two scores of the same images; of the second it is measured how well it tells the first."""

    measures = ("correlation", "rank_correlation", "slope", "spread", "mae", "mae_ratio")
    form: Literal["scatter"]
    first: Row = Field(description="the method whose score is the truth")
    second: Row = Field(description="the method whose score is set against it")

    @property
    def measured(self) -> tuple[str, ...]:
        """The second method."""
        return (self.second.method,)

    def plan(self, context: Context, name: str) -> str:
        """Plan the self's stage and what it reads, and return its id."""
        first, second = scores_of_row(context, self.first), scores_of_row(context, self.second)
        pools = [pools_of(context, one) for one in (first, second)]
        if pools[0] != pools[1]:
            raise UserError(f"{first.method!r} and {second.method!r} score other images: {pools[0]} and {pools[1]}")
        return context.add(ScatterStage(name=name, title=self.title, first=first, second=second, claims=self.claims))


def _cells(first: Scores, second: Scores) -> pd.DataFrame:
    """A row a cell that is not empty: its edges, and how many images are in it."""
    import pandas as pd

    counts, *edges = np.histogram2d(first, second, bins=BINS)
    rows, columns = np.nonzero(counts)
    return pd.DataFrame(
        {
            "first_low": edges[0][rows],
            "first_high": edges[0][rows + 1],
            "second_low": edges[1][columns],
            "second_high": edges[1][columns + 1],
            "images": counts[rows, columns].astype(int),
        }
    )


def _draw(spec: ScatterStage, first: Scores, second: Scores) -> Figure:
    from matplotlib.colors import LogNorm

    from robustprune.experiments.figures.style import COLORS, legend_below, new_panels

    figure, panels = new_panels(1, 1, width=4.4, height=3.6)
    axes = panels[0][0]
    counts, *edges = np.histogram2d(first, second, bins=BINS)
    image = axes.pcolormesh(
        *edges,
        np.ma.masked_equal(counts.T, 0),
        norm=LogNorm(LIGHTEST, max(2, counts.max())),
        cmap="Greys",
        rasterized=True,
    )
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
