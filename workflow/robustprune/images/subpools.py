"""Pools of images that other pools have (``subset``, ``union``). No image is copied.

A view keeps rows, not images, since a part of a million images would be gigabytes that are there already, and reading
rows at random, as training does, costs the same in a file with rows between them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustprune.core.files import digest, write_text
from robustprune.images.contact_sheet import SHEET_FILE, contact_sheet
from robustprune.images.pool import (
    DIGESTS_FILE,
    INFO_FILE,
    LABELS_FILE,
    ROWS_FILE,
    Digests,
    Member,
    Pool,
    PoolInfo,
    open_pool,
    read_digests,
)

if TYPE_CHECKING:
    from robustprune.core.job import Job
    from robustprune.images.drawing import Rows
    from robustprune.images.subset import SubsetPoolStage
    from robustprune.images.union import UnionPoolStage
    from robustprune.scores.selected_pool import SelectedPoolStage

DEFINITION = {"pools.subpools": 1}


@dataclass(frozen=True)
class Parent:
    """A pool that others take images of.

    Attributes:
        pool_id: its stage's id.
        pool: the open pool.
        digests: (N,) of its images.
    """

    pool_id: str
    pool: Pool
    digests: Digests

    def member(self, share: Fraction | None = None) -> Member:
        """Return what a view's page says of it."""
        return Member(pool=self.pool_id, digest=self.pool.info.digest, count=len(self.pool), share=share)


def open_parent(job: Job, pool_id: str) -> Parent:
    """Open a pool that this job's stage reads. Raises UserError."""
    directory = job.upstream("pools", pool_id)
    return Parent(pool_id, open_pool(directory), read_digests(directory))


def publish_view(
    job: Job,
    members: Sequence[Member],
    labels: npt.NDArray[np.int16],
    digests: Digests,
    rows: Rows | None,
    spec: SelectedPoolStage | SubsetPoolStage | UnionPoolStage,
    source: str,
    selected: Sequence[str],
) -> dict[str, Any]:
    """Write and publish a pool whose images are those of its members.

    Args:
        job: the running stage.
        members: the pools, in order.
        labels: (N,) of the view's images.
        digests: (N,) of them.
        rows: (N,) which rows of the members, one after the other, they are; None for all.
        spec: of the view.
        source: a phrase that says where the images came from.
        selected: a phrase for each time that these images, or some of them, were chosen for their quality.

    Returns:
        count, class_counts and digest of the pool, and ``selected``.
    """
    arrays: dict[str, npt.NDArray[Any]] = {LABELS_FILE: labels, DIGESTS_FILE: digests}
    if rows is not None:
        arrays[ROWS_FILE] = rows
    for name, array in arrays.items():
        np.save(job.partial / name, array, allow_pickle=False)
    info = PoolInfo(
        dataset=spec.dataset,
        source=source,
        classes=spec.classes,
        image_shape=spec.image_shape,
        count=len(labels),
        class_counts=tuple(np.bincount(labels, minlength=spec.classes).tolist()),
        digest=_digest(job, members, rows),
        storage="view",
        members=tuple(members),
        selected=tuple(dict.fromkeys(selected)),
    )
    write_text(job.partial / INFO_FILE, info.model_dump_json(indent=2) + "\n")
    job.publish(*arrays, INFO_FILE)
    contact_sheet(open_pool(job.directory).images, labels, spec.classes).save(job.partial / SHEET_FILE)
    job.publish(SHEET_FILE)
    facts = {"count": info.count, "class_counts": list(info.class_counts), "digest": info.digest}
    return {**facts, "selected": list(info.selected)}


def _digest(job: Job, members: Sequence[Member], rows: Rows | None) -> str:
    """Return the digest of the members' digests, in order, and of which of their rows these are."""
    parts = [member.digest for member in members]
    if rows is not None:
        parts.append(digest(job.partial / ROWS_FILE))
    return hashlib.sha256("\n".join(["view", *parts]).encode()).hexdigest()
