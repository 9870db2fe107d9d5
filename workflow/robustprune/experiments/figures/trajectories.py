"""Predictions of images over the epochs, and how fast they move, against the images' uncertainty.

Nieth et al., Figure 3. Frequencies are those of the discrete Fourier transform over the recorded epochs, without the
constant. Theirs are low from 1 to 10, of 300 epochs, with windows of 10: periods of at least three windows. So they
are here, or the lowest alone where the recording is shorter than three windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.paths import dynamics_name
from robustprune.core.settings import Settings
from robustprune.core.stage import ModelId, ScoreId, StageId
from robustprune.experiments.figures.figure import FigureStage, SeriesStyle, figure_form, new_panels
from robustprune.experiments.figures.measures import (
    FigureOfScores,
    MeasureClaim,
    Measured,
    defined,
    measure,
    plan_seeds,
    publish_measured,
    read_scores,
    refuse_unlike,
)
from robustprune.experiments.row import Row
from robustprune.scores.metric import Trajectory

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustprune.planning.context import Context
    from robustprune.scores.dynamics_score import DynamicsScoreStage
    from robustprune.scores.metrics.uncertainty import UncertaintySettings

DEFINITION = {"figures.trajectories": 2}

SLOW_WINDOWS = 3  # least period of a slow movement, in windows of the uncertainty
GROUPS = {"low": 0.01, "middle": 0.5, "high": 0.99}
"""Ranks of the images whose predictions are shown, as shares of all."""
SHOWN_EACH = 3  # images of a group
SHOWN_IMAGES = 800  # in the lower panels, evenly over the ranks

Values = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Movements:
    """The recorded predictions of the images of a series.

    Attributes:
        after: (T,) the recorded epochs.
        certainty: (T, N) probability of the label.
        uncertainty: (N,).
        slow: (N,) mean magnitude of the slow movements.
        fast: (N,) of the fast movements.
        highest_slow: number of the fastest of the slow frequencies.
    """

    after: list[int]
    certainty: Values
    uncertainty: Values
    slow: Values
    fast: Values
    highest_slow: int

    def correlation_with(self, movements: Values) -> float | None:
        """Return Pearson's correlation of the uncertainty with movements; None where anything is constant."""
        if min(np.ptp(self.uncertainty), np.ptp(self.slow), np.ptp(self.fast)) == 0:
            return None
        return float(np.corrcoef(self.uncertainty, movements)[0, 1])


@measure("correlation_low", words="correlation with slow movements")
def correlation_with_slow(moved: Movements) -> float | None:
    """Return the correlation of uncertainty and slow movements."""
    return moved.correlation_with(moved.slow)


@measure("correlation_high", words="correlation with fast movements")
def correlation_with_fast(moved: Movements) -> float | None:
    """Return the correlation of uncertainty and fast movements."""
    return moved.correlation_with(moved.fast)


@measure("fast_over_slow", words="correlation with fast movements, minus that with slow ones")
def fast_over_slow(moved: Movements) -> float | None:
    """Return the difference of the two correlations."""
    slow, fast = correlation_with_slow(moved), correlation_with_fast(moved)
    return None if slow is None or fast is None else fast - slow


@figure_form("trajectories")
class Trajectories(FigureOfScores):
    """Predictions of images over the epochs, and how fast they move, against the uncertainty."""

    measures = ("correlation_low", "correlation_high", "fast_over_slow")
    form: Literal["trajectories"]
    series: tuple[Row, ...] = Field(min_length=1, description="methods that score by an uncertainty, a column each")

    @model_validator(mode="after")
    def _scores_are_uncertainties(self) -> Trajectories:
        for row in self.series:
            if not row.score.startswith("uncertainty") or row.extrapolated:
                raise ValueError(f"score = {row.score} of {row.method!r} should be an uncertainty, not extrapolated")
        return self

    def plan(self, name: str, context: Context) -> str:
        """Plan the figure's stage and return its id. Raises UserError for what the configuration does not allow."""
        series, *again = plan_seeds(
            context, self.claims, lambda seeded: tuple(_plan_series(seeded, row) for row in self.series)
        )
        return context.add(
            TrajectoriesStage(name=name, title=self.title, series=series, again=tuple(again), claims=self.claims)
        )


class TrajectorySeries(Settings):
    """A recorded training, and the uncertainty that was computed from it, of the images of one pool."""

    method: str
    model: ModelId
    pool: StageId
    score: ScoreId
    trajectory: Trajectory
    window: int


def _plan_series(context: Context, row: Row) -> TrajectorySeries:
    score, *_ = context.scored(row)
    stage = cast("DynamicsScoreStage", context.stages[score])
    return TrajectorySeries(
        method=row.method,
        model=stage.models[0],
        pool=stage.pool,
        score=score,
        trajectory=stage.trajectory,
        window=cast("UncertaintySettings", stage.metric).window,
    )


class TrajectoriesStage(FigureStage):
    """Predictions over the epochs, and the uncertainty against how fast they move."""

    form: Literal["trajectories"] = "trajectories"
    series: tuple[TrajectorySeries, ...] = Field(min_length=1)
    again: tuple[tuple[TrajectorySeries, ...], ...] = Field(
        (), description="the same by the trainings of the other seeds"
    )
    claims: tuple[MeasureClaim, ...]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: a column a series, above predictions of some images, below uncertainty and movement.

        Raises UserError when a store is damaged, or too few epochs were recorded to tell fast from slow.
        """
        import pandas as pd

        moved = {series.method: _movements(job, series) for series in self.series}
        measured = {method: defined(Trajectories.measures, movements) for method, movements in moved.items()}
        others = [
            {series.method: defined(Trajectories.measures, _movements(job, series)) for series in of_seed}
            for of_seed in self.again
        ]
        tables = {method: pd.concat(_tables(movements)) for method, movements in moved.items()}
        data = pd.concat(tables, names=["series"]).reset_index("series")
        shown = [
            f"{method}: n = {movements.certainty.shape[1]:,} images, {len(movements.after)} epochs recorded, slow are "
            f"frequencies up to {movements.highest_slow}, of {len(movements.after) // 2}. "
            f"R = {measured[method].get('correlation_low', float('nan')):.2f} with slow, "
            f"{measured[method].get('correlation_high', float('nan')):.2f} with fast movements."
            for method, movements in moved.items()
        ]
        return publish_measured(job, self, _draw(moved, measured), data, shown, [measured, *others])


def _movements(job: Job, series: TrajectorySeries) -> Movements:
    from robustprune.scores.store.reader import open_store

    recording = open_store(job.upstream("models", series.model) / dynamics_name(series.pool))
    certainty = recording.read(f"{series.trajectory}_confidence").astype(np.float32)
    uncertainty = read_scores(job, (series.score,))
    refuse_unlike(certainty[0], uncertainty, names=(series.model, series.score))
    slow, fast, highest = magnitudes(certainty, window=series.window)
    return Movements(list(recording.attributes["recorded_after"]), certainty, uncertainty, slow, fast, highest)


def magnitudes(certainty: Values, *, window: int) -> tuple[Values, Values, int]:
    """Return mean magnitudes of the slow and the fast frequencies of (T, N) predictions, and the number of slow ones.

    Raises UserError when there is no fast frequency.
    """
    epochs = len(certainty)
    highest = max(1, epochs // (SLOW_WINDOWS * window))
    magnitude = np.abs(np.fft.rfft(certainty - certainty[0], axis=0))[1 : epochs // 2 + 1]
    if len(magnitude) <= highest:
        raise UserError(f"{epochs} recorded epochs have {len(magnitude)} frequencies, so none is fast; record more")
    return magnitude[:highest].mean(axis=0), magnitude[highest:].mean(axis=0), highest


def _chosen(uncertainty: Values) -> dict[str, list[int]]:
    """Return the images of each group, next to each other in rank."""
    order = np.argsort(uncertainty, kind="stable")
    last = len(order) - 1
    starts = {group: min(round(share * last), len(order) - SHOWN_EACH) for group, share in GROUPS.items()}
    return {group: order[max(0, start) : max(0, start) + SHOWN_EACH].tolist() for group, start in starts.items()}


def _evenly(uncertainty: Values) -> npt.NDArray[np.int64]:
    """Return images that lie evenly over the ranks."""
    order = np.argsort(uncertainty, kind="stable")
    return order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN_IMAGES, len(order))).astype(np.int64))]


def _tables(moved: Movements) -> list[pd.DataFrame]:
    import pandas as pd

    tables = []
    for group, images in _chosen(moved.uncertainty).items():
        for image in images:
            certainty = {"epoch": moved.after, "certainty": moved.certainty[:, image]}
            tables.append(pd.DataFrame({"panel": "course", "image": image, "group": group, **certainty}))
    shown = _evenly(moved.uncertainty)
    movements = {"uncertainty": moved.uncertainty[shown], "slow": moved.slow[shown], "fast": moved.fast[shown]}
    return [*tables, pd.DataFrame({"panel": "movement", "image": shown, **movements})]


def _draw(moved: Mapping[str, Movements], measured: Mapping[str, Measured]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure, panels = new_panels(2, len(moved), width=3.8, height=2.7)
    for column, (method, movements) in enumerate(moved.items()):
        _draw_predictions(panels[0][column], movements)
        panels[0][column].xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[0][column].set(title=method, xlabel="epoch", ylim=(-0.02, 1.02))
        _draw_movements(panels[1][column], movements, measured[method])
        panels[1][column].set(xlabel="uncertainty", ylabel="mean magnitude")
    panels[0][0].set_ylabel("certainty of the label")
    return figure


def _draw_predictions(axes: Axes, moved: Movements) -> None:
    for number, (group, images) in enumerate(_chosen(moved.uncertainty).items()):
        style = SeriesStyle.numbered(number)
        for count, image in enumerate(images):
            label = f"{group} uncertainty" if count == 0 else None
            axes.plot(moved.after, moved.certainty[:, image], color=style.color, linestyle=style.linestyle, label=label)
    axes.legend(loc="best")


def _draw_movements(axes: Axes, moved: Movements, measured: Measured) -> None:
    images = _evenly(moved.uncertainty)
    parts = {"slow": (moved.slow, "correlation_low"), "fast": (moved.fast, "correlation_high")}
    for number, (name, (values, key)) in enumerate(parts.items()):
        dots = SeriesStyle.numbered(number + 1)._replace(linestyle="none")._asdict()
        label = f"{name}, R = {measured[key]:.2f}" if key in measured else name
        axes.plot(
            moved.uncertainty[images], values[images], **dots, markersize=2.5, alpha=0.6, label=label, rasterized=True
        )
    axes.legend(loc="upper left")
