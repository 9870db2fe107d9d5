"""Several pools as one."""

from typing import Any, Literal, cast

import numpy as np

from robustprune.core.job import Job
from robustprune.core.settings import Exact, Settings
from robustprune.core.stage import PoolId
from robustprune.images.pool_stage import PoolStage, Stages


class UnionPart(Settings):
    """A pool of a union, and its share of the union's images in a batch; None where all are drawn alike."""

    pool: PoolId
    share: Exact | None


class UnionPoolStage(PoolStage):
    """Several pools, one after the other; their images stay there."""

    resources = "ingest"
    uses_device = False
    origin: Literal["union"] = "union"
    parts: tuple[UnionPart, ...]

    @property
    def slug(self) -> str:
        return f"{self.dataset}-union"

    @property
    def members(self) -> tuple[str, ...]:
        """The pools that it is made of."""
        return tuple(part.pool for part in self.parts)

    def planned_count(self, stages: Stages) -> int | None:
        """Return the sum over the pools."""
        counts = [cast(PoolStage, stages[pool]).planned_count(stages) for pool in self.members]
        return None if None in counts else sum(filter(None, counts))

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the view of all the pools' images, one pool after the other.

        Returns:
            count, class_counts and digest of the pool; and how many of its images occur a second time.

        Raises:
            UserError: when a pool is not readable.
        """
        from robustprune.images.subpools import open_parent, publish_view

        parents = [open_parent(job, part.pool) for part in self.parts]
        digests = np.concatenate([parent.digests for parent in parents])
        labels = np.concatenate([parent.pool.labels for parent in parents])
        members = [parent.member(part.share) for parent, part in zip(parents, self.parts, strict=True)]
        source = f"the images of {', '.join(part.pool for part in self.parts)}"
        selected = [phrase for parent in parents for phrase in parent.pool.info.selected]
        facts = publish_view(job, members, labels, digests, None, self, source, selected)
        return {**facts, "repeated": len(digests) - len(np.unique(digests))}
