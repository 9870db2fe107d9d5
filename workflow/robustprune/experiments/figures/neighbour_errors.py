"""Errors of extrapolated scores over the number of neighbours (Nieth et al., Figure 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field, model_validator

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.paths import GRID_FILE
from robustprune.experiments.figures.figure import (
    FigureStage,
    SeriesStyle,
    figure_form,
    legend_below,
    new_panels,
)
from robustprune.experiments.figures.measures import (
    FigureOfScores,
    MeasureClaim,
    ScoreSeries,
    plan_seeds,
    publish_measured,
)
from robustprune.experiments.row import Row
from robustprune.scores.extrapolated import Distance, Sources

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustprune.planning.context import Context
    from robustprune.scores.extrapolated import ExtrapolatedScoreStage

DEFINITION = {"figures.neighbours": 3}

LABEL_APART = 1.15  # least ratio of neighbouring numbers at the axis
SOURCE_WORDS: dict[Sources, str] = {"real": "real", "synthetic": "generated", "all": "real and generated"}


@figure_form("neighbours")
class NeighbourErrors(FigureOfScores):
    """Errors of extrapolated scores over the number of neighbours, by the images that these are looked for among."""

    measures = ("mae", "mae_ratio")
    form: Literal["neighbours"]
    k: tuple[int, ...] = Field(min_length=2, description="numbers of neighbours")
    metric: tuple[Distance, ...] = Field(("cosine",), min_length=1, description="in which neighbours are near")
    sources: tuple[Sources, ...] = Field(("real", "synthetic", "all"), min_length=1, description="where they are")
    series: tuple[Row, ...] = Field(min_length=1, description="methods with extrapolated scores, a panel each")

    @property
    def measured(self) -> tuple[str, ...]:
        return tuple(f"{row.method}, {SOURCE_WORDS[source]}" for row in self.series for source in self.sources)

    @model_validator(mode="after")
    def _rows_extrapolate(self) -> NeighbourErrors:
        if direct := [row.method for row in self.series if not row.extrapolated]:
            raise ValueError(f"the method {direct[0]!r} lacks extrapolated: true")
        return self

    def plan(self, name: str, context: Context) -> str:
        """Plan the figure's stage and return its id. Raises UserError for what the configuration does not allow."""
        series, *again = plan_seeds(context, self.claims, self._scores)
        return context.add(
            NeighbourErrorsStage(name=name, title=self.title, series=series, again=tuple(again), claims=self.claims)
        )

    def _scores(self, context: Context) -> tuple[ScoreSeries, ...]:
        return tuple(ScoreSeries(method=row.method, scores=(self._extrapolated(context, row),)) for row in self.series)

    def _extrapolated(self, context: Context, row: Row) -> str:
        """Plan the configured extrapolation with the figure's own settings to try, and return its id."""
        stage = context.stages[context.scored(row)[-1]]
        if getattr(stage, "score", "") != "extrapolated":
            raise UserError(
                f"{row.method}: training.{row.recipe} learns from the real images alone, so there is nothing to "
                "extrapolate to; set its synthetic_fraction above 0"
            )
        score = cast("ExtrapolatedScoreStage", stage)
        if len(score.sources) == 1:
            raise UserError(
                f"{row.method}: extrapolation.source = none, so no generated image is scored directly, and how far "
                "extrapolated scores are from the truth is not known"
            )
        tried = {"k": self.k, "metric": self.metric, "sources": self.sources}
        return context.add(score.model_copy(update={"settings": score.settings.model_copy(update=tried)}))


class NeighbourErrorsStage(FigureStage):
    """Errors of extrapolated scores over the number of neighbours. Each series has one score, the extrapolated one."""

    form: Literal["neighbours"] = "neighbours"
    series: tuple[ScoreSeries, ...] = Field(min_length=1)
    again: tuple[tuple[ScoreSeries, ...], ...] = Field((), description="the same by the trainings of the other seeds")
    claims: tuple[MeasureClaim, ...]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: a panel a score, a curve for each choice of sources and metric, and the mean as a line.

        Returns:
            title, the least errors by sources, and for each claim its checks in words and its verdict.
        """
        data = _grids(job, self.series)
        seeds = [_least(data), *(_least(_grids(job, series)) for series in self.again)]
        shown = "; ".join(
            f"{name} {least['mae']:.4f}, {least['mae_ratio']:.3f} of that of the mean"
            for name, least in seeds[0].items()
        )
        images = ", ".join(f"{count:,}" for count in sorted(set(data["images"])))
        errors = f"Errors on n = {images} held-out generated images. Chosen on as many others: {shown}."
        return publish_measured(job, self, _draw(data), data, [errors], seeds)


def _grids(job: Job, of: tuple[ScoreSeries, ...]) -> pd.DataFrame:
    """Return the errors of each combination that was tried for some scores, with the series' names first."""
    import pandas as pd

    tables = [
        pd.read_csv(job.upstream("scores", series.scores[0]) / GRID_FILE)
        .replace({"sources": SOURCE_WORDS})
        .assign(series=series.method)
        for series in of
    ]
    data = pd.concat(tables, ignore_index=True)
    data.insert(0, "series", data.pop("series"))
    return data


def _least(data: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return the mean absolute error of what is chosen for each score and choice of sources, on other images."""
    least: dict[str, dict[str, float]] = {}
    for (method, sources), tried in data.groupby(["series", "sources"], sort=False):
        chosen = tried.iloc[int(tried["choosing_mae"].argmin())]
        mae, constant = float(chosen["mae"]), float(chosen["constant_mae"])
        least[f"{method}, {sources}"] = {"mae": mae, "mae_ratio": mae / constant if constant else float("nan")}
    return least


def _draw(data: pd.DataFrame) -> Figure:
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
    """Return those of the ascending numbers whose labels do not touch on a logarithmic axis."""
    chosen = numbers[:1]
    for number in numbers[1:]:
        if number >= LABEL_APART * chosen[-1]:
            chosen.append(number)
    return chosen


def _draw_panel(axes: Axes, tried: pd.DataFrame) -> None:
    for number, (key, curve) in enumerate(tried.groupby(["sources", "metric", "weighting"], sort=False)):
        sources, metric, weighting = key
        style, ordered = SeriesStyle.numbered(number + 1), curve.sort_values("k")
        label = f"{sources}, {metric}" + ("" if weighting == "mean" else ", by distance")
        axes.plot(ordered["k"], ordered["mae"], **style._asdict(), label=label)
    axes.axhline(float(tried["constant_mae"].iloc[0]), color="black", linewidth=1, label="the mean score of the source")
