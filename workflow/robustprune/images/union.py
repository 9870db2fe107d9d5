"""Several pools as one."""

from typing import Any

import numpy as np

from robustprune.core.job import Job
from robustprune.images.specs import UnionPoolStage
from robustprune.images.subpools import open_parent, publish_view


def run(job: Job, spec: UnionPoolStage) -> dict[str, Any]:
    """Publish the view of all the pools' images, one pool after the other.

    Returns:
        count, class_counts and digest of the pool; and how many of its images occur a second time.

    Raises:
        UserError: when a pool is not readable.
    """
    parents = [open_parent(job, part.pool) for part in spec.parts]
    digests = np.concatenate([parent.digests for parent in parents])
    labels = np.concatenate([parent.pool.labels for parent in parents])
    members = [parent.member(part.share) for parent, part in zip(parents, spec.parts, strict=True)]
    source = f"the images of {', '.join(part.pool for part in spec.parts)}"
    selected = [phrase for parent in parents for phrase in parent.pool.info.selected]
    facts = publish_view(job, members, labels, digests, None, spec, source, selected)
    return {**facts, "repeated": len(digests) - len(np.unique(digests))}
