"""What every score stage publishes, and how it is read: a store with one leading column, and a picture of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from robustprune.core.errors import UserError
from robustprune.core.paths import STORE_NAME
from robustprune.scores.distribution import Histogram, by_class, by_run, describe_scores
from robustprune.scores.store.reading import Store, open_store
from robustprune.scores.store.writing import write_store

if TYPE_CHECKING:
    from robustprune.core.job import Job
    from robustprune.core.rows import Columns
    from robustprune.core.stage import Stage
    from robustprune.images.pool import Pool


def draw_scores(histogram: Histogram, path: Path, *, censored: int, label: str, title: str) -> None:
    """Write a histogram of the finite scores as PNG, negative and positive ones in different colours.

    Args:
        histogram: of the finite scores.
        path: the file to write.
        censored: how many are not finite, for the legend.
        label: what the axis says: the score and its unit.
        title: what stands above.
    """
    edges, counts = np.array(histogram.edges), np.array(histogram.counts)
    negative = edges[:-1] < 0
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, color, chosen in (("0 or more", "tab:blue", ~negative), ("negative", "tab:red", negative)):
        heights = np.where(chosen, counts, 0)
        axes.stairs(heights, edges, fill=True, color=color, label=f"{name} ({heights.sum():,})")
    axes.plot([], [], " ", label=f"not finite, not shown ({censored:,})")
    axes.set(title=title, xlabel=label, ylabel="images")
    axes.legend()
    figure.savefig(path, dpi=150)


Easy = Literal["high", "low"]


@dataclass(frozen=True)
class Meaning:
    """Meaning of a score.

    Attributes:
        column: name of the leading column, the one that is pruned by.
        unit: what a value of 1 is.
        easy: the end at which the easy images are; strategies that drop easy or difficult images go by it.
        sign: the same in words, with what a negative value means.
    """

    column: str
    unit: str
    easy: Easy
    sign: str


FIGURE_FILE = "scores.png"


def publish_score(
    job: Job, spec: Stage, blocks: Iterable[Columns], meaning: Meaning, pool: Pool, attributes: dict[str, Any]
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


def publish_written(job: Job, spec: Stage, meaning: Meaning, pool: Pool) -> dict[str, Any]:
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
