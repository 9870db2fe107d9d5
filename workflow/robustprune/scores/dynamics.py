"""The stage that scores each image of a pool by what trainings recorded of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.core.job import Job
from robustprune.core.paths import dynamics_name
from robustprune.core.rows import Columns, RowPass, compute_rows
from robustprune.core.stage import ModelId, SharedRows, slug_of
from robustprune.scores.metrics import difficulty, el2n, forgetting, frequency, uncertainty
from robustprune.scores.settings import (
    AnyMetric,
    DifficultySettings,
    DynamicsScoreName,
    El2nSettings,
    ForgettingSettings,
    FrequencySettings,
    Trajectory,
    UncertaintySettings,
    evenly_spaced,
)
from robustprune.scores.specs import ScoreStage

if TYPE_CHECKING:
    from robustprune.images.pool import Pool
    from robustprune.scores.store.reading import Store


DEFINITION = {"scores.dynamics": 1}

UNIT_AND_SIGN = {
    "difficulty": ("share of epochs misclassified", "0 was always right, an easy image; 1 was never right"),
    "uncertainty": ("standard deviation of the label's probability", "0 never moved: easy, or given up"),
    "frequency": ("summed magnitudes of the DFT of the label's probability", "0 never moved: easy, or given up"),
    "el2n": (
        "L2 norm of softmax - one-hot label",
        "0 was learnt early, an easy image; sqrt 2 is sure of another class",
    ),
    "forgetting": ("times", "0 was learnt and never forgotten, an easy image; infinite was never learnt"),
}

"""By metric; at all of them the low end is the easy one."""

LOOKED_AT = {
    "difficulty": "correct",
    "uncertainty": "confidence",
    "frequency": "confidence",
    "el2n": "error",
    "forgetting": "correct",
}

"""Which of the recorded values a metric is made from."""

RECORDED_TOGETHER = 2**16  # images scored at once from their trajectories: a chunk of the store


class DynamicsScoreStage(ScoreStage):
    """What the recorded course of one or more trainings says of each image of a pool that they learnt from."""

    kind: Literal["scores"] = "scores"
    score: DynamicsScoreName
    models: tuple[ModelId, ...] = Field(min_length=1)
    trajectory: Trajectory
    metric: AnyMetric

    @property
    def slug(self) -> str:
        return f"{self.score.replace('_', '-')}-{slug_of(self.pool)}"

    @property
    def needs_device(self) -> bool:
        return False

    @property
    def shared_rows(self) -> SharedRows:
        return SharedRows(pool=self.pool, together=RECORDED_TOGETHER)

    def row_pass(self, job: Job) -> RowPass:
        """How some or all images are scored.

        Raises:
            UserError: when the pool or a recording is damaged, or they do not belong together.
        """
        from robustprune.images.pool import open_pool

        pool = open_pool(job.upstream("pools", self.pool))
        recordings = [_open_recording(job, model, self.pool, pool) for model in self.models]
        score, together = partial(_score, self, recordings), self.shared_rows.together
        return partial(compute_rows, job, len(pool), score, what=f"scoring {self.score}", batch_size=together)

    def run(self, job: Job) -> dict[str, Any]:
        """Publish a store with the score, one row a sample.

        Returns:
            what ``publish_score`` found.

        Raises:
            UserError: as ``row_pass``.
        """
        from robustprune.images.pool import open_pool
        from robustprune.scores.files import Meaning, publish_score

        blocks = self.row_pass(job)()
        pool = open_pool(job.upstream("pools", self.pool))
        unit, sign = UNIT_AND_SIGN[self.metric.metric]
        meaning = Meaning(column=self.score, unit=unit, easy="low", sign=sign)
        return publish_score(job, self, blocks, meaning, pool, {})


def _open_recording(job: Job, model: str, pool_id: str, pool: Pool) -> Store:
    from robustprune.scores.store.reading import open_store

    path = job.upstream("models", model) / dynamics_name(pool_id)
    return open_store(path, pool_digest=pool.info.digest)


def _score(spec: DynamicsScoreStage, recordings: list[Store], start: int, stop: int) -> Columns:
    column = f"{spec.trajectory}_{LOOKED_AT[spec.metric.metric]}"
    trajectories = [recording.read(column, start, stop) for recording in recordings]  # (epochs, rows) each
    match spec.metric:
        case El2nSettings(after=after):
            score = el2n([_early(*pair, after) for pair in zip(trajectories, recordings, strict=True)])
        case UncertaintySettings(window=window, last_window=last_window):
            score = uncertainty(trajectories[0], window=window, last_window=last_window)
        case FrequencySettings():
            score = frequency(trajectories[0])
        case DifficultySettings(checkpoints=checkpoints):
            epochs = len(trajectories[0])
            score = difficulty(trajectories[0][np.array(evenly_spaced(epochs, checkpoints or epochs)) - 1])
        case ForgettingSettings():
            score = forgetting(trajectories[0])
    return {spec.score: score}


def _early(errors: npt.NDArray[Any], recording: Store, share: float) -> npt.NDArray[Any]:
    """(rows,): the errors of the recorded epoch nearest to that share of the training, the earlier of two."""
    after = np.array(recording.attributes["recorded_after"])
    return np.asarray(errors[np.argmin(np.abs(after - share * after[-1]))])
