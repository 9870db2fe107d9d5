"""The files of a score stage, and how they are read: a store with one leading column, and a histogram of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from robustprune.core.errors import UserError
from robustprune.core.paths import STORE_NAME
from robustprune.scores.distribution import Histogram, by_class, by_run, describe_scores
from robustprune.scores.score import Meaning
from robustprune.scores.store.reader import open_store
from robustprune.scores.store.writer import write_store

if TYPE_CHECKING:
    from robustprune.core.job import Job
    from robustprune.core.rows import Columns
    from robustprune.core.stage import Stage
    from robustprune.images.pool import Pool


FIGURE_FILE = "scores.png"


def publish_score(
    job: Job, spec: Stage, blocks: Iterable[Columns], meaning: Meaning, pool: Pool, attributes: dict[str, Any]
) -> dict[str, Any]:
    """Write and publish scores.zarr and scores.png, with at most a few blocks in memory.

    Args:
        job: the running stage.
        spec: its spec, stored as an attribute.
        blocks: columns of the pool's rows, in order, in blocks of any length; ``meaning.column`` is among them.
        meaning: meaning of the leading column.
        pool: the pool whose images are scored.
        attributes: further attributes for readers.

    Returns:
        the source of the images and the facts of ``distribution.describe_scores``.
    """
    path = job.partial / STORE_NAME
    stated = {"spec": spec.without_locations(), "score": asdict(meaning), "pool_digest": pool.info.digest}
    write_store(path, blocks, len(pool), {**stated, **attributes})
    return publish_written(job, spec, meaning, pool)


def publish_written(job: Job, spec: Stage, meaning: Meaning, pool: Pool) -> dict[str, Any]:
    """Describe, draw and publish the scores.zarr in ``partial/``; return what ``publish_score`` does."""
    store = open_store(job.partial / STORE_NAME)
    groupings = {"by_class": by_class(pool.labels, pool.info.classes)}
    if len(pool.info.members) > 1:
        groupings["by_source"] = by_run({member.pool: member.count for member in pool.info.members})
    column = meaning.column
    facts = describe_scores(lambda: (block[column] for block in store.blocks(column)), groupings)
    draw_scores(
        Histogram(**facts["histogram"]),
        job.partial / FIGURE_FILE,
        censored=facts["censored"],
        label=f"{column} ({meaning.unit})",
        title=spec.id,
    )
    job.publish(STORE_NAME, FIGURE_FILE)
    return {"source": pool.info.source, **facts}


def draw_scores(histogram: Histogram, path: Path, *, censored: int, label: str, title: str) -> None:
    """Write a histogram as PNG, with negative and positive scores in different colours.

    Args:
        histogram: histogram of the finite scores.
        path: the file to write.
        censored: number of scores that are not finite, for the legend.
        label: label of the x axis: the score and its unit.
        title: title of the figure.
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


def read_score(directory: Path, *, pool_digest: str) -> tuple[npt.NDArray[np.float32], Meaning]:
    """Return the leading column of a score stage and its meaning.

    Raises UserError if the store is damaged, belongs to another pool, or does not state its leading column.
    """
    store = open_store(directory / STORE_NAME, pool_digest=pool_digest)
    try:
        meaning = Meaning(**store.attributes["score"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{store.path} does not say which column is its score ({error})") from None
    return store.read(meaning.column), meaning
