"""Views: pools of images that other pools have, such as unions. A view keeps rows; no image is copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from robustprune.core.files import digest, hash_lines
from robustprune.core.job import Job
from robustprune.core.settings import Exact, Settings
from robustprune.core.stage import PoolId
from robustprune.images import pool as pools
from robustprune.images.contact_sheet import publish_with_sheet

if TYPE_CHECKING:
    from robustprune.images.drawing import Rows

DEFINITION = {"pools.subpools": 1}


@dataclass(frozen=True)
class Parent:
    """A pool that a view takes images of."""

    pool_id: str
    pool: pools.Pool
    digests: pools.Digests  # (N,)

    def member(self, share: Fraction | None = None) -> pools.Member:
        """Return the entry in a view's pool.json."""
        return pools.Member(pool=self.pool_id, digest=self.pool.info.digest, count=len(self.pool), share=share)


def open_parent(job: Job, pool_id: str) -> Parent:
    """Open a pool that this job's stage reads. Raises UserError."""
    directory = job.upstream("pools", pool_id)
    return Parent(pool_id, pools.open_pool(directory), pools.read_digests(directory))


def publish_view(
    job: Job,
    members: Sequence[pools.Member],
    labels: npt.NDArray[np.int16],
    digests: pools.Digests,
    rows: Rows | None,
    spec: pools.PoolStage,
    source: str,
    selected: Sequence[str],
) -> dict[str, Any]:
    """Write and publish a view of its members' images; return count, class_counts, digest and selected.

    ``labels`` and ``digests`` are (N,), as is ``rows``, which counts through all members in order; None for all rows.
    ``source`` says where the images came from, ``selected`` each time how some were chosen by quality.
    """
    arrays: dict[str, npt.NDArray[Any]] = {pools.LABELS_FILE: labels, pools.DIGESTS_FILE: digests}
    if rows is not None:
        arrays[pools.ROWS_FILE] = rows
    for name, array in arrays.items():
        np.save(job.partial / name, array, allow_pickle=False)
    lines = ["view", *(member.digest for member in members)]
    if rows is not None:
        lines.append(digest(job.partial / pools.ROWS_FILE))
    info = pools.write_info(
        job.partial,
        labels,
        source=source,
        digest=hash_lines(lines),
        storage="view",
        members=tuple(members),
        selected=tuple(dict.fromkeys(selected)),
        **spec.form,
    )
    return {**publish_with_sheet(job, *arrays, pools.INFO_FILE), "selected": list(info.selected)}


class UnionPart(Settings):
    """A pool of a union, and its share of the union's images in a batch; None: in proportion to the counts."""

    pool: PoolId
    share: Exact | None


class UnionPoolStage(pools.PoolStage):
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
        return tuple(part.pool for part in self.parts)

    def planned_count(self, stages: pools.Stages) -> int | None:
        counts = [cast(pools.PoolStage, stages[pool]).planned_count(stages) for pool in self.members]
        return None if None in counts else sum(filter(None, counts))

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the view of all images; return its facts and how many images occur a second time."""
        parents = [open_parent(job, pool) for pool in self.members]
        digests = np.concatenate([parent.digests for parent in parents])
        labels = np.concatenate([parent.pool.labels for parent in parents])
        members = [parent.member(part.share) for parent, part in zip(parents, self.parts, strict=True)]
        source = f"the images of {', '.join(self.members)}"
        selected = [phrase for parent in parents for phrase in parent.pool.info.selected]
        facts = publish_view(job, members, labels, digests, None, self, source, selected)
        return {**facts, "repeated": len(digests) - len(np.unique(digests))}
