"""The stage that scores each image of a pool from training dynamics, by a metric."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from robustprune.core.declarations import Named
from robustprune.core.job import Job
from robustprune.core.paths import dynamics_name
from robustprune.core.rows import Columns, RowPass, compute_rows
from robustprune.core.stage import ModelId, SharedRows
from robustprune.core.work import FLOAT_BYTES
from robustprune.scores.metric import METRICS, AnyMetric, Recorded, Trajectory
from robustprune.scores.score import Meaning, ScoreStage

DEFINITION = {"scores.dynamics": 1}

RECORDED_TOGETHER = 2**16  # images scored at once from their trajectories: a chunk of the store


class DynamicsScoreStage(ScoreStage):
    """A score of each image of a pool, computed from what trainings on it recorded."""

    uses_device = False
    row_bytes = FLOAT_BYTES
    score: Annotated[str, Named(METRICS)]
    models: tuple[ModelId, ...] = Field(min_length=1)
    trajectory: Trajectory
    metric: AnyMetric

    @property
    def shared_rows(self) -> SharedRows:
        return SharedRows(pool=self.pool, together=RECORDED_TOGETHER)

    def row_pass(self, job: Job) -> RowPass:
        """Return the pass that scores some or all images.

        Raises UserError if the pool or a recording is damaged, or they do not belong together.
        """
        from robustprune.images.pool import open_pool
        from robustprune.scores.store.reader import open_store

        pool = open_pool(job.upstream("pools", self.pool))
        paths = [job.upstream("models", model) / dynamics_name(self.pool) for model in self.models]
        recordings = [open_store(path, pool_digest=pool.info.digest) for path in paths]
        column = f"{self.trajectory}_{self.metric.reads}"

        def score(start: int, stop: int) -> Columns:
            trainings = [
                Recorded(recording.read(column, start, stop), np.array(recording.attributes["recorded_after"]))
                for recording in recordings
            ]
            return {self.score: self.metric.score(trainings)}

        what, together = f"scoring {self.score}", self.shared_rows.together
        return partial(compute_rows, job, len(pool), score, what=what, batch_size=together)

    def run(self, job: Job) -> dict[str, Any]:
        """Publish a store with the score, one row per image; return what ``publish_score`` does.

        Raises UserError as ``row_pass``.
        """
        from robustprune.images.pool import open_pool
        from robustprune.scores.score_files import publish_score

        blocks = self.row_pass(job)()
        pool = open_pool(job.upstream("pools", self.pool))
        metric = self.metric
        meaning = Meaning(column=self.score, unit=metric.unit, easy=metric.easy, sign=metric.sign)
        return publish_score(job, self, blocks, meaning, pool, {})
