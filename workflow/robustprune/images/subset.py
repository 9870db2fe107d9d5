"""A random part of a pool (papers.md, P15, N9)."""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from robustprune.core.job import Job
from robustprune.core.stage import PoolId
from robustprune.images.pool import PoolStage, Stages

DEFINITION = {"pools.subset": 1}


class SubsetPoolStage(PoolStage):
    """A random part of another pool; its images stay there."""

    resources = "ingest"
    uses_device = False
    origin: Literal["subset"] = "subset"
    pool: PoolId
    count: int = Field(gt=0)
    balanced: bool
    apart_from: tuple[PoolId, ...] = Field(description="pools of which no image is drawn")
    seed: int = Field(ge=0)

    @property
    def slug(self) -> str:
        return f"{self.dataset}-subset"

    @property
    def parent(self) -> str:
        return self.pool

    def planned_count(self, stages: Stages) -> int:
        return self.count

    def run(self, job: Job) -> dict[str, Any]:
        """Draw the rows and publish the view in the order of the draw, even if the parent is sorted by class.

        Returns:
            count, class_counts and digest of the pool; and, for each pool in ``apart_from``, the number of the parent's
            images that are also there, and so were not drawn.

        Raises:
            UserError: if there are too few images to draw from, or a pool is not readable.
        """
        from robustprune.images.drawing import draw_rows, row_keys
        from robustprune.images.duplicates import rows_also_in
        from robustprune.images.subpools import open_parent, publish_view

        parent = open_parent(job, self.pool)
        labels, excluded = parent.pool.labels, np.zeros(len(parent.pool), np.bool_)
        not_drawn_from = {}
        for other in self.apart_from:
            shared = rows_also_in(parent.digests, open_parent(job, other).digests)
            excluded[shared], not_drawn_from[other] = True, len(shared)
        rows = draw_rows(
            labels,
            self.count,
            classes=self.classes,
            balanced=self.balanced,
            seed=self.seed,
            excluded=excluded,
            origin=self.pool,
        )
        rows = rows[np.argsort(row_keys(len(labels), self.seed)[rows], kind="stable")]
        source = f"{self.count} images drawn from {self.pool} with seed {self.seed}"
        selected = parent.pool.info.selected
        facts = publish_view(job, [parent.member()], labels[rows], parent.digests[rows], rows, self, source, selected)
        return {**facts, "not_drawn_from": not_drawn_from}
