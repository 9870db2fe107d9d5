"""The stage that extrapolates a score from pools that are scored directly to one that is not."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from robustprune.core.files import replacing
from robustprune.core.job import Job
from robustprune.core.paths import GRID_FILE
from robustprune.core.rows import RowPass
from robustprune.core.settings import Settings
from robustprune.core.stage import EmbeddingId, PoolId, ScoreId, SharedRows
from robustprune.core.work import FLOAT_BYTES
from robustprune.scores.score import ScoreStage

DEFINITION = {"extrapolation.stage": 1}

EXTRAPOLATED_TOGETHER = 2**13  # images per neighbour search: 268 MB of inner products

Distance = Literal["cosine", "euclidean"]
Weighting = Literal["mean", "distance"]
Sources = Literal["all", "real", "synthetic"]


class NeighbourSettings(Settings):
    """The k-nearest-neighbour regression of Nieth et al. (2024, section 2).

    Every combination of ``k``, ``metric``, ``weighting`` and ``sources`` is tried on the held-out images; the one of
    lowest mean absolute error is used.
    """

    k: tuple[Annotated[int, Field(ge=1)], ...] = Field((5, 13, 35), min_length=1, description="numbers of neighbours")
    metric: tuple[Distance, ...] = Field(("cosine",), min_length=1, description="cosine | euclidean")
    weighting: tuple[Weighting, ...] = Field(
        ("mean",), min_length=1, description="mean of the neighbours' scores, or weighted by 1 / distance"
    )
    sources: tuple[Sources, ...] = Field(
        ("all",), min_length=1, description="directly scored images that neighbours are looked for in"
    )
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the last source on which the choice is made")
    allow_overlap: bool = Field(False, description="allow images that are both scored directly and extrapolated to")
    seed: int = Field(0, ge=0, description="which images are held out")

    @field_validator("k", "metric", "weighting", "sources")
    @classmethod
    def _distinct(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(value)) != len(value):
            raise ValueError("should have each value once")
        return value


class ScoredPool(Settings):
    """A pool that is scored directly, and its embedding.

    Its first ``validation_images`` were held out from the trainings that recorded the score, so nothing is
    extrapolated from them.
    """

    pool: PoolId
    score: ScoreId
    embedding: EmbeddingId
    validation_images: int = Field(0, ge=0, exclude_if=lambda images: images == 0)  # so that older ids stay


class ExtrapolatedScoreStage(ScoreStage):
    """The score of every image of a pool, from those of its nearest neighbours in pools that are scored directly.

    ``sources`` are the real pool and, optionally, a synthetic pool; images of the last are held out to choose the
    settings.
    """

    row_bytes = 2 * FLOAT_BYTES  # score, distance of the nearest neighbour
    score: Literal["extrapolated"] = "extrapolated"
    embedding: EmbeddingId
    sources: tuple[ScoredPool, ...] = Field(min_length=1, max_length=2)
    settings: NeighbourSettings

    @property
    def shared_rows(self) -> SharedRows:
        return SharedRows(pool=self.pool, together=EXTRAPOLATED_TOGETHER)

    def row_pass(self, job: Job) -> RowPass:
        """Return the pass that scores some or all images; the first of several jobs chooses the settings.

        Raises UserError if pools overlap, scores or embeddings do not fit each other, or too few images are scored.
        """
        from robustprune.scores.extrapolation import Extrapolation

        return Extrapolation(job, self).row_pass()

    def run(self, job: Job) -> dict[str, Any]:
        """Choose the settings on held-out images, then publish the extrapolated scores and grid.csv.

        The store has the column of the sources' score and ``nearest``, the distance of the nearest neighbour. grid.csv
        has one line per combination of settings, as in Figure 1 of Nieth et al. (2024). Raises UserError as
        ``row_pass``.

        Returns:
            as ``publish_score``; the number of images and of infinite scores of each source; images shared with the
            target; the settings chosen by half of the held-out images, and their quality on the other half.
        """
        import pandas as pd

        from robustprune.images.pool import open_pool
        from robustprune.scores.extrapolation import Extrapolation
        from robustprune.scores.score_files import publish_score

        extrapolation = Extrapolation(job, self)
        facts = extrapolation.facts
        blocks = extrapolation.row_pass()()
        lines = [
            {
                **trial.settings,
                "choosing_mae": trial.choosing_mae,
                **asdict(trial.quality),
                "images": facts["held_out"]["images"],
            }
            for trial in extrapolation.tried
        ]
        with replacing(job.partial / GRID_FILE) as temporary:
            pd.DataFrame(lines).to_csv(temporary, index=False)
        job.publish(GRID_FILE)
        meaning = extrapolation.sources[0].meaning
        meaning = replace(meaning, sign=f"{meaning.sign}; extrapolated from the nearest images that are scored")
        pool = open_pool(job.upstream("pools", self.pool))
        return {**publish_score(job, self, blocks, meaning, pool, {"extrapolation": facts}), **facts}
