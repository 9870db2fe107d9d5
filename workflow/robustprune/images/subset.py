"""A random part of a pool (papers.md, P15, N9)."""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from robustprune.core.job import Job
from robustprune.core.stage import PoolId
from robustprune.images.pool_stage import PoolStage, Stages

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
        """The pool that it is a part of."""
        return self.pool

    def planned_count(self, stages: Stages) -> int:
        """Return the number of images that are drawn."""
        return self.count

    def run(self, job: Job) -> dict[str, Any]:
        """Draw the rows and publish the view, in the order they are drawn: of a parent in class order it is not in one.

        Returns:
            count, class_counts and digest of the pool; and how many of the parent's images are among those that it has
            to stand apart from, and so were not drawn from.

        Raises:
            UserError: when there are too few images to draw from, or a pool is not readable.
        """
        from robustprune.images.drawing import draw_rows, row_keys
        from robustprune.images.duplicates import rows_also_in
        from robustprune.images.subpools import open_parent, publish_view

        parent = open_parent(job, self.pool)
        others = [open_parent(job, pool_id) for pool_id in self.apart_from]
        shared = {other.pool_id: rows_also_in(parent.digests, other.digests) for other in others}
        excluded = np.zeros(len(parent.pool), np.bool_)
        for also_there in shared.values():
            excluded[also_there] = True
        rows = draw_rows(
            parent.pool.labels,
            self.count,
            classes=self.classes,
            balanced=self.balanced,
            seed=self.seed,
            excluded=excluded,
            origin=self.pool,
        )
        rows = rows[np.argsort(row_keys(len(parent.pool), self.seed)[rows], kind="stable")]
        source = f"{self.count} images drawn from {self.pool} with seed {self.seed}"
        labels, digests, selected = parent.pool.labels[rows], parent.digests[rows], parent.pool.info.selected
        facts = publish_view(job, [parent.member()], labels, digests, rows, self, source, selected)
        return {**facts, "not_drawn_from": {pool_id: len(also_there) for pool_id, also_there in shared.items()}}
