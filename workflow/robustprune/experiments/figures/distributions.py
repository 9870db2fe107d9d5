"""Distributions of scores: a histogram for each way to measure them, over common bins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.settings import Radius
from robustprune.experiments.figures.figure import FigureStage, SeriesStyle, figure_form, legend_below, new_panels
from robustprune.experiments.figures.measures import (
    Compared,
    FigureOfScores,
    MeasureClaim,
    Scores,
    ScoreSeries,
    defined,
    measures_in_words,
    plan_scores,
    plan_seeds,
    publish_measured,
    read_scores,
    scored_pools,
)
from robustprune.experiments.row import Row
from robustprune.scores.distribution import histogram

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from robustprune.planning.context import Context

DEFINITION = {"figures.distributions": 3, "scores.distribution": 1}

SHOWN = (0.0, 0.999)  # quantiles that bins lie between, so that a few images do not squeeze the rest


@figure_form("distributions")
class Distributions(FigureOfScores):
    """Distributions of the scores of the images that methods learn from, a line a method."""

    measures = ("median", "censored", "low", "tail", "distance", "rank_correlation")
    form: Literal["distributions"]
    axis: str = Field(min_length=1, description="label of the axis of the scores")
    epsilon_marked: bool = Field(False, description="mark threat.epsilon on it")
    series: tuple[Row, ...] = Field(min_length=1, description="methods whose scores are shown")

    def plan(self, name: str, context: Context) -> str:
        """Plan the figure's stage and return its id. Raises UserError for what the configuration does not allow."""
        series, *again = plan_seeds(
            context, self.claims, lambda seeded: tuple(plan_scores(seeded, row) for row in self.series)
        )
        return context.add(
            DistributionsStage(
                name=name,
                title=self.title,
                axis=self.axis,
                epsilon=context.config.threat.epsilon if self.epsilon_marked else None,
                series=series,
                again=tuple(again),
                same_images=len({scored_pools(context, of_row) for of_row in series}) == 1,
                claims=self.claims,
            )
        )


class DistributionsStage(FigureStage):
    """Distributions of scores."""

    form: Literal["distributions"] = "distributions"
    axis: str
    epsilon: Radius | None
    series: tuple[ScoreSeries, ...] = Field(min_length=1)
    again: tuple[tuple[ScoreSeries, ...], ...] = Field((), description="the same by the trainings of the other seeds")
    same_images: bool = Field(description="true if all series are of the same images")
    claims: tuple[MeasureClaim, ...]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: shares of the images by score, a line a series. Raises UserError for unusable scores."""
        seeds = [self._measured(_read(job, series)) for series in (self.series, *self.again)]
        scores, measured = _read(job, self.series), seeds[0]
        data = _bins(scores)
        shown = "; ".join(
            f"{method}, n = {len(values):,} images: {measures_in_words(measured[method])}"
            for method, values in scores.items()
        )
        return publish_measured(job, self, _draw(self, scores, data), data, [f"Measured: {shown}."], seeds)

    def _measured(self, scores: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
        """Return the measures of each series, compared with the first."""
        for method, values in scores.items():
            if not np.isfinite(values).any():
                raise UserError(f"{method}: no image has a finite score, so there is no distribution to show")
        first = next(iter(scores.values()))
        highest = max(float(values[np.isfinite(values)].max()) for values in scores.values())
        return {
            method: defined(Distributions.measures, Compared(values, first, highest, self.same_images))
            for method, values in scores.items()
        }


def _read(job: Job, of: tuple[ScoreSeries, ...]) -> dict[str, Scores]:
    return {series.method: read_scores(job, series.scores) for series in of}


def _bins(scores: Mapping[str, Scores]) -> pd.DataFrame:
    """Return a row a series and bin: its edges, and number and share of the images in it."""
    import pandas as pd

    finite = np.concatenate([values[np.isfinite(values)] for values in scores.values()])
    low, high = np.quantile(finite, SHOWN).tolist()
    tables = []
    for method, all_scores in scores.items():
        inside = all_scores[np.isfinite(all_scores) & (all_scores <= high)]
        counted = histogram(lambda values=inside: [values], low, high)  # type: ignore[misc]
        edges, counts = np.array(counted.edges), np.array(counted.counts)
        table = {"series": method, "low": edges[:-1], "high": edges[1:], "images": counts}
        tables.append(pd.DataFrame({**table, "share": counts / len(all_scores)}))
    return pd.concat(tables, ignore_index=True)


def _draw(spec: DistributionsStage, scores: Mapping[str, Scores], data: pd.DataFrame) -> Figure:
    figure, panels = new_panels(1, 1, width=5.6, height=3.2)
    axes = panels[0][0]
    for number, (method, values) in enumerate(scores.items()):
        bins, style = data[data["series"] == method], SeriesStyle.numbered(number)
        edges = np.append(bins["low"], bins["high"].iloc[-1])
        label = f"{method} (n = {len(values):,})"
        axes.stairs(
            100 * bins["share"], edges, color=style.color, linestyle=style.linestyle, linewidth=1.5, label=label
        )
        axes.stairs(100 * bins["share"], edges, color=style.color, fill=True, alpha=0.12)
    if spec.epsilon is not None:
        axes.axvline(float(spec.epsilon), color="black", linewidth=0.8)
        axes.text(float(spec.epsilon), axes.get_ylim()[1], " ε", va="top")
    axes.set(xlabel=spec.axis, ylabel="images in a bin, %")
    legend_below(figure, axes, columns=2)
    return figure
