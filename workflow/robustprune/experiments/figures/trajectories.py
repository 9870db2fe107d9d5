"""What is behind the uncertainty of images: their predictions over the epochs, and how fast these move.

Nieth et al., Figure 3. Frequencies are those of the discrete Fourier transform over the recorded epochs, without the
constant. Theirs are low from 1 to 10, of 300 epochs, with windows of 10: periods of at least three windows. So they
are here, or the lowest alone where the recording is shorter than three windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.paths import dynamics_name
from robustprune.core.settings import Settings
from robustprune.core.stage import ModelId, ScoreId, StageId
from robustprune.experiments.figures.figure import FigureStage, figure
from robustprune.experiments.figures.of_scores import FigureOfScores, MeasureClaim, MeasureName
from robustprune.experiments.row import Row
from robustprune.scores.dynamics import DynamicsScoreStage
from robustprune.scores.trajectory import Trajectory

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustprune.planning.context import Context
    from robustprune.scores.metrics.uncertainty import UncertaintySettings


DEFINITION = {"figures.trajectories": 2}

SLOW_WINDOWS = 3  # windows of the uncertainty that the period of a slow movement is long, at least

GROUPS = {"low": 0.01, "middle": 0.5, "high": 0.99}

"""Ranks of the images whose course is shown, as shares of all."""

SHOWN_EACH = 3  # images of a group

SHOWN_IMAGES = 800  # in the lower panels, evenly over the ranks

Values = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Movements:
    """What was recorded of the images of a series.

    Attributes:
        after: (T,) the recorded epochs.
        certainty: (T, N) probability of the label.
        uncertainty: (N,).
        slow: (N,) mean magnitude of the slow movements.
        fast: (N,) that of the others.
        highest_slow: number of the fastest of the slow frequencies.
    """

    after: list[int]
    certainty: Values
    uncertainty: Values
    slow: Values
    fast: Values
    highest_slow: int

    def measures(self) -> dict[MeasureName, float]:
        """Pearson's correlation of the uncertainty with either; none where one of them is constant."""
        if min(np.ptp(self.uncertainty), np.ptp(self.slow), np.ptp(self.fast)) == 0:
            return {}
        slow, fast = (float(np.corrcoef(self.uncertainty, one)[0, 1]) for one in (self.slow, self.fast))
        return {"correlation_low": slow, "correlation_high": fast, "fast_over_slow": fast - slow}


class TrajectorySeries(Settings):
    """A recorded training, and the uncertainty that was made of it, of the images of one pool."""

    method: str
    model: ModelId
    pool: StageId
    score: ScoreId
    trajectory: Trajectory
    window: int


class TrajectoriesStage(FigureStage):
    """Predictions over the epochs, and the uncertainty against how fast they move."""

    form: Literal["trajectories"] = "trajectories"
    series: tuple[TrajectorySeries, ...] = Field(min_length=1)
    claims: tuple[MeasureClaim, ...]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: a column a series, above the courses of some images, below uncertainty against movement.

        Returns:
            title, the correlations of each series, and for each claim what was found and whether this run agrees.

        Raises:
            UserError: when a store is damaged, or too few epochs were recorded to tell fast from slow.
        """
        import pandas as pd

        from robustprune.experiments.claims import sentences
        from robustprune.experiments.figures.measures import judge_measures
        from robustprune.experiments.figures.scores import ONE_TRAINING
        from robustprune.experiments.figures.style import publish_figure

        moved = {series.method: _movements(job, series) for series in self.series}
        measured = {method: own.measures() for method, own in moved.items()}
        judged = judge_measures(self.claims, measured)
        data = pd.concat([table.assign(series=method) for method, own in moved.items() for table in _tables(own)])
        data.insert(0, "series", data.pop("series"))
        shown = [
            f"{method}: n = {own.certainty.shape[1]:,} images, {len(own.after)} epochs recorded, slow are frequencies "
            f"up to {own.highest_slow}, of {len(own.after) // 2}. "
            f"R = {measured[method].get('correlation_low', float('nan')):.2f} with slow, "
            f"{measured[method].get('correlation_high', float('nan')):.2f} with fast movements."
            for method, own in moved.items()
        ]
        publish_figure(job, _draw(moved, measured), data, [self.title, *shown, ONE_TRAINING, *sentences(judged)])
        return {"title": self.title, "measured": measured, "claims": [asdict(one) for one in judged]}


@figure("trajectories")
class Trajectories(FigureOfScores):
    """What the uncertainty of images is made of: their predictions over the epochs, and how fast these move."""

    measures = ("correlation_low", "correlation_high", "fast_over_slow")
    form: Literal["trajectories"]
    series: tuple[Row, ...] = Field(min_length=1, description="methods that score by an uncertainty, a column each")

    @property
    def measured(self) -> tuple[str, ...]:
        """The methods."""
        return tuple(row.method for row in self.series)

    @model_validator(mode="after")
    def _scores_are_uncertainties(self) -> Trajectories:
        for row in self.series:
            if not row.score.startswith("uncertainty") or row.extrapolated:
                raise ValueError(f"score = {row.score} of {row.method!r} should be an uncertainty, not extrapolated")
        return self

    def plan(self, context: Context, name: str) -> str:
        """Plan the self's stage and what it reads, and return its id."""
        series = tuple(_trajectory(context, row) for row in self.series)
        return context.add(TrajectoriesStage(name=name, title=self.title, series=series, claims=self.claims))


def _trajectory(context: Context, row: Row) -> TrajectorySeries:
    score, *_ = context.scored(row)
    spec = context.stages[score]
    assert isinstance(spec, DynamicsScoreStage)
    metric = cast("UncertaintySettings", spec.metric)  # as the form has checked
    return TrajectorySeries(
        method=row.method,
        model=spec.models[0],
        pool=spec.pool,
        score=score,
        trajectory=spec.trajectory,
        window=metric.window,
    )


def _movements(job: Job, series: TrajectorySeries) -> Movements:
    from robustprune.experiments.figures.scores import read_scores, refuse_unlike
    from robustprune.scores.store.reading import open_store

    recording = open_store(job.upstream("models", series.model) / dynamics_name(series.pool))
    certainty = recording.read(f"{series.trajectory}_confidence").astype(np.float32)
    uncertainty, _ = read_scores(job, (series.score,))
    refuse_unlike(certainty[0], uncertainty, names=(series.model, series.score))
    slow, fast, highest = magnitudes(certainty, window=series.window)
    return Movements(list(recording.attributes["recorded_after"]), certainty, uncertainty, slow, fast, highest)


def magnitudes(certainty: Values, *, window: int) -> tuple[Values, Values, int]:
    """Mean magnitude of the slow and of the fast frequencies of (T, N) courses, and how many are slow.

    Raises:
        UserError: when there is no fast one.
    """
    epochs = len(certainty)
    highest = max(1, epochs // (SLOW_WINDOWS * window))
    magnitude = np.abs(np.fft.rfft(certainty - certainty[0], axis=0))[1 : epochs // 2 + 1]
    if len(magnitude) <= highest:
        raise UserError(f"{epochs} recorded epochs have {len(magnitude)} frequencies, so none is fast; record more")
    return magnitude[:highest].mean(axis=0), magnitude[highest:].mean(axis=0), highest


def _chosen(uncertainty: Values) -> dict[str, list[int]]:
    """Images of each group, next to each other in rank."""
    order = np.argsort(uncertainty, kind="stable")
    last = len(order) - 1
    starts = {group: min(round(share * last), len(order) - SHOWN_EACH) for group, share in GROUPS.items()}
    return {group: order[max(0, start) : max(0, start) + SHOWN_EACH].tolist() for group, start in starts.items()}


def _evenly(uncertainty: Values) -> npt.NDArray[np.int64]:
    order = np.argsort(uncertainty, kind="stable")
    return order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN_IMAGES, len(order))).astype(np.int64))]


def _tables(own: Movements) -> list[pd.DataFrame]:
    import pandas as pd

    courses = [
        pd.DataFrame(
            {
                "panel": "course",
                "image": image,
                "group": group,
                "epoch": own.after,
                "certainty": own.certainty[:, image],
            }
        )
        for group, images in _chosen(own.uncertainty).items()
        for image in images
    ]
    images = _evenly(own.uncertainty)
    movements = {"uncertainty": own.uncertainty[images], "slow": own.slow[images], "fast": own.fast[images]}
    return [
        *courses,
        pd.DataFrame({"panel": "movement", "image": images, **movements}),
    ]


def _draw(moved: Mapping[str, Movements], measured: Mapping[str, Mapping[MeasureName, float]]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    from robustprune.experiments.figures.style import new_panels

    figure, panels = new_panels(2, len(moved), width=3.8, height=2.7)
    for column, (method, own) in enumerate(moved.items()):
        _draw_courses(panels[0][column], own)
        panels[0][column].xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[0][column].set(title=method, xlabel="epoch", ylim=(-0.02, 1.02))
        _draw_movements(panels[1][column], own, measured[method])
        panels[1][column].set(xlabel="uncertainty", ylabel="mean magnitude")
    panels[0][0].set_ylabel("certainty of the label")
    return figure


def _draw_courses(axes: Axes, own: Movements) -> None:
    from robustprune.experiments.figures.style import Series

    for number, (group, images) in enumerate(_chosen(own.uncertainty).items()):
        style = Series.numbered(number)
        for count, image in enumerate(images):
            label = f"{group} uncertainty" if count == 0 else None
            axes.plot(own.after, own.certainty[:, image], color=style.color, linestyle=style.line, label=label)
    axes.legend(loc="best")


def _draw_movements(axes: Axes, own: Movements, measured: Mapping[MeasureName, float]) -> None:
    from robustprune.experiments.figures.style import Series

    images = _evenly(own.uncertainty)
    parts: tuple[tuple[str, Values, MeasureName], ...] = (
        ("slow", own.slow, "correlation_low"), ("fast", own.fast, "correlation_high"),
    )  # fmt: skip
    for number, (name, values, measure) in enumerate(parts):
        style = Series.numbered(number + 1)
        r = f", R = {measured[measure]:.2f}" if measure in measured else ""
        axes.plot(
            own.uncertainty[images], values[images], linestyle="none", marker=style.marker, markersize=2.5,
            color=style.color, alpha=0.6, label=f"{name}{r}", rasterized=True,
        )  # fmt: skip
    axes.legend(loc="upper left")
