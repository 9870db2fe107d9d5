"""The stage that scores each image of a pool by what trainings recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from robustprune.core.declarations import Named
from robustprune.core.job import Job
from robustprune.core.paths import dynamics_name
from robustprune.core.rows import Columns, RowPass, compute_rows
from robustprune.core.stage import ModelId, SharedRows, slug_of
from robustprune.core.work import FLOAT_BYTES
from robustprune.scores.metric import METRICS, AnyMetric
from robustprune.scores.score import ScoreStage
from robustprune.scores.trajectory import Recorded, Trajectory

if TYPE_CHECKING:
    from robustprune.images.pool import Pool
    from robustprune.planning.plan import Plan
    from robustprune.scores.store.reading import Store


DEFINITION = {"scores.dynamics": 1}

RECORDED_TOGETHER = 2**16  # images scored at once from their trajectories: a chunk of the store


class DynamicsScoreStage(ScoreStage):
    """A score of each image of a pool by the recorded course of the trainings that learnt from it."""

    kind: Literal["scores"] = "scores"
    score: Annotated[str, Named(METRICS)]
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

    def bytes_left(self, plan: Plan, parameters: Mapping[str, int]) -> int:
        """Return the size of the score."""
        return plan.count(self.pool) * FLOAT_BYTES

    def row_pass(self, job: Job) -> RowPass:
        """Return how some or all images are scored.

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
        metric = self.metric
        meaning = Meaning(column=self.score, unit=metric.unit, easy=metric.easy, sign=metric.sign)
        return publish_score(job, self, blocks, meaning, pool, {})


def _open_recording(job: Job, model: str, pool_id: str, pool: Pool) -> Store:
    from robustprune.scores.store.reading import open_store

    path = job.upstream("models", model) / dynamics_name(pool_id)
    return open_store(path, pool_digest=pool.info.digest)


def _score(spec: DynamicsScoreStage, recordings: list[Store], start: int, stop: int) -> Columns:
    column = f"{spec.trajectory}_{spec.metric.reads}"
    trainings = [
        Recorded(recording.read(column, start, stop), np.array(recording.attributes["recorded_after"]))
        for recording in recordings
    ]
    return {spec.score: spec.metric.score(trainings)}
