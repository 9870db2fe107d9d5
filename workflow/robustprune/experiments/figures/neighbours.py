"""How far extrapolated scores are from the truth, over the number of neighbours (Nieth et al., Figure 1)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.paths import GRID_FILE
from robustprune.experiments.figures.figure import FigureStage, figure
from robustprune.experiments.figures.of_scores import FigureOfScores, MeasureClaim, MeasureName, ScoreSeries
from robustprune.experiments.row import Row
from robustprune.scores.extrapolated import ExtrapolatedScoreStage
from robustprune.scores.extrapolation.neighbour_settings import Distance, Sources

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustprune.planning.context import Context


DEFINITION = {"figures.neighbours": 2}

LABEL_APART = 1.15  # from a number to the next that is written at the axis


SOURCE_WORDS: dict[Sources, str] = {"real": "real", "synthetic": "generated", "all": "real and generated"}
"""Which images neighbours are looked for among, for people."""


class NeighboursStage(FigureStage):
    """Errors of extrapolated scores over the number of neighbours. Each series has one score, the extrapolated one."""

    form: Literal["neighbours"] = "neighbours"
    series: tuple[ScoreSeries, ...] = Field(min_length=1)
    claims: tuple[MeasureClaim, ...]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: a panel a score, a curve for each choice of sources and metric, and the mean as a line.

        Returns:
            title, the least errors by sources, and for each claim what was found and whether this run agrees.
        """
        import pandas as pd

        from robustprune.experiments.claims import sentences
        from robustprune.experiments.figures.measures import judge_measures
        from robustprune.experiments.figures.scores import ONE_TRAINING
        from robustprune.experiments.figures.style import publish_figure

        data = pd.concat(
            [
                pd.read_csv(job.upstream("scores", series.scores[0]) / GRID_FILE)
                .replace({"sources": SOURCE_WORDS})
                .assign(series=series.method)
                for series in self.series
            ],
            ignore_index=True,
        )
        data.insert(0, "series", data.pop("series"))
        measured = _least(data)
        judged = judge_measures(self.claims, measured)
        shown = "; ".join(
            f"{name} {found['mae']:.4f}, {found['mae_ratio']:.3f} of that of the mean"
            for name, found in measured.items()
        )
        images = sorted(set(data["images"]))
        what = f"Errors on n = {', '.join(f'{count:,}' for count in images)} held-out generated images."
        publish_figure(
            job, _draw(data), data, [self.title, f"{what} The least: {shown}.", ONE_TRAINING, *sentences(judged)]
        )
        return {"title": self.title, "measured": measured, "claims": [asdict(one) for one in judged]}


@figure("neighbours")
class Neighbours(FigureOfScores):
    """How far extrapolated scores are from the truth, over the number of neighbours, by what they are taken from."""

    measures = ("mae", "mae_ratio")
    form: Literal["neighbours"]
    k: tuple[int, ...] = Field(min_length=2, description="numbers of neighbours")
    metric: tuple[Distance, ...] = Field(("cosine",), min_length=1, description="in which neighbours are near")
    sources: tuple[Sources, ...] = Field(("real", "synthetic", "all"), min_length=1, description="where they are")
    series: tuple[Row, ...] = Field(min_length=1, description="methods with extrapolated scores, a panel each")

    @property
    def measured(self) -> tuple[str, ...]:
        """A method and what its scores are taken from."""
        return tuple(f"{row.method}, {SOURCE_WORDS[source]}" for row in self.series for source in self.sources)

    @model_validator(mode="after")
    def _rows_extrapolate(self) -> Neighbours:
        if direct := [row.method for row in self.series if not row.extrapolated]:
            raise ValueError(f"the method {direct[0]!r} lacks extrapolated: true")
        return self

    def plan(self, context: Context, name: str) -> str:
        """Plan the self's stage and what it reads, and return its id."""
        series = tuple(
            ScoreSeries(method=row.method, scores=(_extrapolated(context, row, self),)) for row in self.series
        )
        return context.add(NeighboursStage(name=name, title=self.title, series=series, claims=self.claims))


def _extrapolated(context: Context, row: Row, figure: Neighbours) -> str:
    """The configured extrapolation, with the settings of the figure tried in place of the configured ones."""
    score = context.scored(row)[-1]
    spec = context.stages[score]
    if not isinstance(spec, ExtrapolatedScoreStage):
        raise UserError(
            f"{row.method}: training.{row.recipe} learns from the real images alone, so there is nothing to "
            "extrapolate to; set its synthetic_fraction above 0"
        )
    if len(spec.sources) == 1:
        raise UserError(
            f"{row.method}: extrapolation.source = none, so no generated image is scored directly, and how far "
            "extrapolated scores are from the truth is not known"
        )
    tried = {"k": figure.k, "metric": figure.metric, "sources": figure.sources}
    return context.add(spec.model_copy(update={"settings": spec.settings.model_copy(update=tried)}))


def _least(data: pd.DataFrame) -> dict[str, dict[MeasureName, float]]:
    """The least mean absolute error of each score and choice of sources."""
    found: dict[str, dict[MeasureName, float]] = {}
    for (method, sources), tried in data.groupby(["series", "sources"], sort=False):
        mae, constant = float(tried["mae"].min()), float(tried["constant_mae"].iloc[0])
        name = f"{method}, {sources}"
        found[name] = {"mae": mae, "mae_ratio": mae / constant if constant else float("nan")}
    return found


def _draw(data: pd.DataFrame) -> Figure:
    from robustprune.experiments.figures.style import legend_below, new_panels

    methods = list(data["series"].unique())
    figure, panels = new_panels(1, len(methods), width=max(3.8, 6.0 / len(methods)), height=3.0)
    for axes, method in zip(panels[0], methods, strict=True):
        _draw_panel(axes, data[data["series"] == method])
        axes.set(title=method, xlabel="neighbours k", xscale="log")
        ticks = _apart(sorted(set(data["k"])))
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
    panels[0][0].set_ylabel("mean absolute error")
    legend_below(figure, panels[0][0], columns=2 if len(methods) == 1 else 4)
    return figure


def _apart(numbers: list[int]) -> list[int]:
    """Those of the ascending numbers whose labels do not touch on a logarithmic axis."""
    chosen = numbers[:1]
    for number in numbers[1:]:
        if number >= LABEL_APART * chosen[-1]:
            chosen.append(number)
    return chosen


def _draw_panel(axes: Axes, tried: pd.DataFrame) -> None:
    from robustprune.experiments.figures.style import Series

    for number, (key, curve) in enumerate(tried.groupby(["sources", "metric", "weighting"], sort=False)):
        sources, metric, weighting = key
        style, ordered = Series.numbered(number + 1), curve.sort_values("k")
        label = f"{sources}, {metric}" + ("" if weighting == "mean" else ", by distance")
        axes.plot(
            ordered["k"], ordered["mae"], color=style.color, marker=style.marker, linestyle=style.line, label=label
        )
    axes.axhline(float(tried["constant_mae"].iloc[0]), color="black", linewidth=1, label="the mean score of the source")
