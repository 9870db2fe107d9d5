"""A random part of a pool (papers.md, P15, N9)."""

from typing import Any

import numpy as np

from robustprune.core.job import Job
from robustprune.images.drawing import draw_rows, row_keys
from robustprune.images.duplicates import rows_also_in
from robustprune.images.specs import SubsetPoolStage
from robustprune.images.subpools import open_parent, publish_view

DEFINITION = {"pools.subset": 1}


def run(job: Job, spec: SubsetPoolStage) -> dict[str, Any]:
    """Draw the rows and publish the view, in the order they are drawn: of a parent in class order it is not in one.

    Returns:
        count, class_counts and digest of the pool; and how many of the parent's images are among those that it has to
        stand apart from, and so were not drawn from.

    Raises:
        UserError: when there are too few images to draw from, or a pool is not readable.
    """
    parent = open_parent(job, spec.pool)
    others = [open_parent(job, pool_id) for pool_id in spec.apart_from]
    shared = {other.pool_id: rows_also_in(parent.digests, other.digests) for other in others}
    excluded = np.zeros(len(parent.pool), np.bool_)
    for also_there in shared.values():
        excluded[also_there] = True
    rows = draw_rows(
        parent.pool.labels,
        spec.count,
        classes=spec.classes,
        balanced=spec.balanced,
        seed=spec.seed,
        excluded=excluded,
        origin=spec.pool,
    )
    rows = rows[np.argsort(row_keys(len(parent.pool), spec.seed)[rows], kind="stable")]
    source = f"{spec.count} images drawn from {spec.pool} with seed {spec.seed}"
    labels, digests, selected = parent.pool.labels[rows], parent.digests[rows], parent.pool.info.selected
    facts = publish_view(job, [parent.member()], labels, digests, rows, spec, source, selected)
    return {**facts, "not_drawn_from": {pool_id: len(also_there) for pool_id, also_there in shared.items()}}
