"""What every score stage publishes, and how it is read: a store with one leading column, and a picture of it."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustprune.blocks import Columns
from robustprune.errors import UserError
from robustprune.job import Job
from robustprune.paths import STORE_NAME
from robustprune.pools.format import Pool
from robustprune.scores.distribution import Histogram, by_class, by_run, describe_scores
from robustprune.scores.figure import draw_scores
from robustprune.scores.meaning import Meaning
from robustprune.specs import Spec
from robustprune.store import Store, open_store, write_store

FIGURE_FILE = "scores.png"


def publish_score(
    job: Job, spec: Spec, blocks: Iterable[Columns], meaning: Meaning, pool: Pool, attributes: dict[str, Any]
) -> dict[str, Any]:
    """Write scores.zarr and scores.png, and publish both, with a block or two in memory.

    Args:
        job: the running stage.
        spec: its spec, stored as an attribute.
        blocks: columns of the pool's rows, in order, in blocks of any length; ``meaning.column`` is among them.
        meaning: what the leading column says.
        pool: the pool whose images these are the scores of.
        attributes: what else a reader should know.

    Returns:
        where the images come from, and what ``distribution.describe_scores`` tells of them.
    """
    path = job.partial / STORE_NAME
    stated = {"spec": spec.without_locations(), "score": asdict(meaning), "pool_digest": pool.info.digest}
    write_store(path, blocks, len(pool), {**stated, **attributes})
    return publish_written(job, spec, meaning, pool)


def publish_written(job: Job, spec: Spec, meaning: Meaning, pool: Pool) -> dict[str, Any]:
    """Describe and draw the scores.zarr in ``partial/``, and publish it and scores.png.

    Returns:
        as ``publish_score``.
    """
    store = open_store(job.partial / STORE_NAME)
    groupings = {"by_class": by_class(pool.labels, pool.info.classes)}
    if len(pool.info.members) > 1:
        groupings["by_source"] = by_run({member.pool: member.count for member in pool.info.members})
    facts = describe_scores(lambda: _leading(store, meaning), groupings)
    draw_scores(
        Histogram(**facts["histogram"]),
        job.partial / FIGURE_FILE,
        censored=facts["censored"],
        label=f"{meaning.column} ({meaning.unit})",
        title=spec.id,
    )
    job.publish(STORE_NAME, FIGURE_FILE)
    return {"source": pool.info.source, **facts}


def _leading(store: Store, meaning: Meaning) -> Iterator[npt.NDArray[np.float32]]:
    return (block[meaning.column] for block in store.blocks(meaning.column))


def read_score(directory: Path, *, pool_digest: str) -> tuple[npt.NDArray[np.float32], Meaning]:
    """The leading column of a score stage, and what it says.

    Raises:
        UserError: when the store is damaged, belongs to another pool, or does not say which column leads.
    """
    store = open_store(directory / STORE_NAME, pool_digest=pool_digest)
    try:
        meaning = Meaning(**store.attributes["score"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{store.path} does not say which column is its score ({error})") from None
    return store.read(meaning.column), meaning
