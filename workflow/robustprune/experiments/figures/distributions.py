"""How scores are spread: a histogram for each way to measure them, over common bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.settings import Radius
from robustprune.experiments.figures.figure import FigureStage, figure
from robustprune.experiments.figures.of_scores import FigureOfScores, MeasureClaim, ScoreSeries, pools_of, scores_of_row
from robustprune.experiments.row import Row
from robustprune.scores.distribution import histogram

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from robustprune.planning.context import Context


DEFINITION = {"figures.distributions": 3, "scores.distribution": 1}

SHOWN = (0.0, 0.999)  # quantiles between which bins are cut, so that a few images do not squeeze the rest

Scores = npt.NDArray[np.float32]


class DistributionsStage(FigureStage):
    """How scores are spread."""

    form: Literal["distributions"] = "distributions"
    axis: str
    epsilon: Radius | None
    series: tuple[ScoreSeries, ...] = Field(min_length=1)
    same_images: bool = Field(description="whether all series are of the same images")
    claims: tuple[MeasureClaim, ...]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: shares of the images by score, a line a series.

        Returns:
            title, the measures of each series, and for each claim what was found and whether this run agrees.

        Raises:
            UserError: when a store of scores is damaged, or has no finite one.
        """
        from robustprune.experiments.claims import sentences
        from robustprune.experiments.figures.measures import judge_measures, measures_in_words, of_scores
        from robustprune.experiments.figures.scores import ONE_TRAINING, read_scores
        from robustprune.experiments.figures.style import publish_figure

        scores = {series.method: read_scores(job, series.scores)[0] for series in self.series}
        first = next(iter(scores.values()))
        for method, own in scores.items():
            if not np.isfinite(own).any():
                raise UserError(f"{method}: no image has a finite score, so there is no distribution to show")
        highest = max(float(own[np.isfinite(own)].max()) for own in scores.values())
        measured = {
            method: of_scores(own, first, highest=highest, same_images=self.same_images)
            for method, own in scores.items()
        }
        judged = judge_measures(self.claims, measured)
        data = _bins(scores)
        shown = "; ".join(
            f"{method}, n = {len(own):,} images: {measures_in_words(measured[method])}"
            for method, own in scores.items()
        )
        publish_figure(
            job, _draw(self, scores, data), data, [self.title, f"Measured: {shown}.", ONE_TRAINING, *sentences(judged)]
        )
        return {"title": self.title, "measured": measured, "claims": [asdict(one) for one in judged]}


@figure("distributions")
class Distributions(FigureOfScores):
    """How the scores of the images that methods learn from are spread, a line a method."""

    measures = ("median", "low", "tail", "censored", "distance", "rank_correlation")
    form: Literal["distributions"]
    axis: str = Field(min_length=1, description="what stands at the axis of the scores")
    epsilon_marked: bool = Field(False, description="whether threat.epsilon is marked on it")
    series: tuple[Row, ...] = Field(min_length=1, description="methods whose scores are shown")

    @property
    def measured(self) -> tuple[str, ...]:
        """The methods."""
        return tuple(row.method for row in self.series)

    def plan(self, context: Context, name: str) -> str:
        """Plan the self's stage and what it reads, and return its id."""
        series = tuple(scores_of_row(context, row) for row in self.series)
        return context.add(
            DistributionsStage(
                name=name,
                title=self.title,
                axis=self.axis,
                epsilon=context.config.threat.epsilon if self.epsilon_marked else None,
                series=series,
                same_images=len({pools_of(context, one) for one in series}) == 1,
                claims=self.claims,
            )
        )


def _bins(scores: Mapping[str, Scores]) -> pd.DataFrame:
    """A row a series and bin: its edges, and how many and which share of all its images are in it."""
    import pandas as pd

    finite = np.concatenate([own[np.isfinite(own)] for own in scores.values()])
    low, high = np.quantile(finite, SHOWN).tolist()
    rows = []
    for method, own in scores.items():
        inside = own[np.isfinite(own) & (own <= high)]
        counted = histogram(lambda values=inside: [values], low, high)  # type: ignore[misc]
        counts = np.array(counted.counts)
        edges = np.array(counted.edges)
        rows.append(
            pd.DataFrame(
                {"series": method, "low": edges[:-1], "high": edges[1:], "images": counts, "share": counts / len(own)}
            )
        )
    return pd.concat(rows, ignore_index=True)


def _draw(spec: DistributionsStage, scores: Mapping[str, Scores], data: pd.DataFrame) -> Figure:
    from robustprune.experiments.figures.style import Series, legend_below, new_panels

    figure, panels = new_panels(1, 1, width=5.6, height=3.2)
    axes = panels[0][0]
    for number, (method, own) in enumerate(scores.items()):
        bins, style = data[data["series"] == method], Series.numbered(number)
        edges = np.append(bins["low"], bins["high"].iloc[-1])
        label = f"{method} (n = {len(own):,})"
        axes.stairs(100 * bins["share"], edges, color=style.color, linestyle=style.line, linewidth=1.5, label=label)
        axes.stairs(100 * bins["share"], edges, color=style.color, fill=True, alpha=0.12)
    if spec.epsilon is not None:
        axes.axvline(float(spec.epsilon), color="black", linewidth=0.8)
        axes.text(float(spec.epsilon), axes.get_ylim()[1], " ε", va="top")
    axes.set(xlabel=spec.axis, ylabel="images in a bin, %")
    legend_below(figure, axes, columns=2)
    return figure
