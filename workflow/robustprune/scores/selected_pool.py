"""Selection of the images of each class with the highest probability of their label (Wang et al. 2023)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Literal, cast

import numpy as np
from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.settings import Exact
from robustprune.core.stage import PoolId, ScoreId
from robustprune.core.stage_file import read_spec
from robustprune.images.pool import PoolStage, Stages
from robustprune.scores.score import ScoreStage

DEFINITION = {"pools.selected": 1}


class SelectedPoolStage(PoolStage):
    """A view of a pool with the images of each class that have the lowest loss of a classifier."""

    resources = "ingest"
    uses_device = False
    origin: Literal["selected"] = "selected"
    pool: PoolId
    score: ScoreId
    keep: Exact = Field(gt=0, le=1)

    @property
    def slug(self) -> str:
        return f"{self.dataset}-selected"

    @property
    def parent(self) -> str:
        """The pool whose images are selected."""
        return self.pool

    def planned_count(self, stages: Stages) -> int | None:
        """Return the number of images, if that of each class of the parent is known."""
        counts = cast(PoolStage, stages[self.pool]).planned_class_counts()
        return None if counts is None else sum(map(self.kept, counts))

    def kept(self, images: int) -> int:
        """Return the number kept of a class with ``images``: the share, rounded, and at least one if there is any."""
        return max(math.floor(images * self.keep + Fraction(1, 2)), min(images, 1))

    def run(self, job: Job) -> dict[str, Any]:
        """Select the rows and publish the view; return the facts of both.

        Raises UserError if the pool is not readable, or the score is not a classifier's loss on its clean images.
        """
        from robustprune.images.subpools import open_parent, publish_view
        from robustprune.scores.score_files import read_score

        parent = open_parent(job, self.pool)
        directory = job.upstream("scores", self.score)
        scored = read_spec(directory)
        if not (isinstance(scored, ScoreStage) and scored.is_clean_loss and scored.pool == self.pool):
            raise UserError(
                f"{self.score} is not a loss of the images of {self.pool} as they are, which selection goes by"
            )
        losses, _ = read_score(directory, pool_digest=parent.pool.info.digest)
        labels = np.asarray(parent.pool.labels)
        kept, by_class = [], {}
        for label in range(self.classes):
            of_class = np.flatnonzero(labels == label)
            surest = of_class[np.argsort(losses[of_class], kind="stable")[: self.kept(len(of_class))]]
            kept.append(surest)
            lowest_probability = float(np.exp(-losses[surest].max())) if len(surest) else math.nan
            counts = {"images": len(of_class), "kept": len(surest)}
            by_class[str(label)] = {**counts, "lowest_probability": lowest_probability}
        rows = np.sort(np.concatenate(kept))
        source = f"of {self.pool} the {float(self.keep):.4g} of each class that {scored.classifier} is surest of"
        selected = [*parent.pool.info.selected, source]
        facts = publish_view(job, [parent.member()], labels[rows], parent.digests[rows], rows, self, source, selected)
        return {**facts, "selection": by_class}
