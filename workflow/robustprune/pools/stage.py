"""The stage ``pools``: images are brought in, or drawn from a generator, and put into the pool format."""

import importlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import numpy as np

from robustprune.blocks import RowPass
from robustprune.errors import UserError
from robustprune.job import Job
from robustprune.pools.duplicates import find_repeats, rows_also_in, sorted_by_class
from robustprune.pools.format import DIGESTS_FILE, LABELS_FILE, read_digests
from robustprune.pools.writing import fill_pool, publish_pool
from robustprune.sources import require_unchanged
from robustprune.specs import DigitsSource, FileSource, GeneratedPoolSpec, IngestedPoolSpec, TorchvisionSource

logger = logging.getLogger(__name__)


def run(job: Job, spec: IngestedPoolSpec | GeneratedPoolSpec) -> dict[str, Any]:
    """Make the pool; its facts are the number of images, in all and of each class, and the pool's digest.

    Raises:
        UserError: naming the file that is missing, broken or does not fit ``data.classes`` and ``data.image_shape``.
    """
    if isinstance(spec, GeneratedPoolSpec):
        from robustprune.pools.generated import run_generated  # brings the generator, which ingest does not need

        return run_generated(job, spec)
    return _run_ingested(job, spec)


def row_pass(job: Job, spec: GeneratedPoolSpec) -> RowPass:
    """How some or all images of a generated pool are drawn."""
    from robustprune.pools import generated

    return generated.row_pass(job, spec)


def _run_ingested(job: Job, spec: IngestedPoolSpec) -> dict[str, Any]:
    with _unchanged(spec.source):
        stream = importlib.import_module(f"robustprune.pools.ingest.{spec.source.format}").open_stream(spec)
        fill_pool(
            job,
            stream.blocks,
            count=stream.count,
            image_shape=spec.image_shape,
            classes=spec.classes,
            dataset=spec.dataset,
            source=_phrase(spec),
            origin=_place(spec),
        )
    found = {**_duplicates(job), **_overlaps(job, spec)}
    return {**publish_pool(job), **found, **stream.facts}


def _duplicates(job: Job) -> dict[str, Any]:
    """Whether the images are in the order of their classes, and how many are there more than once."""
    labels, digests = (np.load(job.output(name), mmap_mode="r") for name in (LABELS_FILE, DIGESTS_FILE))
    by_class = sorted_by_class(labels)
    if by_class:
        logger.warning("the images are sorted by class: the first so many of them are not a fair sample")
    repeats = find_repeats(digests, labels)
    if repeats.first is not None:
        logger.warning(
            "%d images are equal to one before them, the first in row %d to row %d; %d of them have another label",
            *(repeats.images, *repeats.first, repeats.with_other_label),
        )
    return {
        "sorted_by_class": by_class,
        "duplicates": {"images": repeats.images, "with_other_label": repeats.with_other_label},
    }


def _overlaps(job: Job, spec: IngestedPoolSpec) -> dict[str, Any]:
    """How many images are also training images, or test images. Raises UserError where they must not be the latter."""
    counts = {}
    for split, other in (("train", spec.train), ("test", spec.test)):
        if other is None:
            continue
        digests = np.load(job.output(DIGESTS_FILE), mmap_mode="r")
        rows = rows_also_in(digests, read_digests(job.upstream("pools", other)))
        counts[split] = len(rows)
        if len(rows) and split == "test" and spec.overlap == "refused":
            raise UserError(
                f"{_place(spec)}: {len(rows):,} images, the first in row {rows[0]}, are also test images, so a model "
                f"would be tested on what it learnt; take them out, or set data.overlap: allowed"
            )
    return {"also_in": counts} if counts else {}


@contextmanager
def _unchanged(source: FileSource | TorchvisionSource | DigitsSource) -> Iterator[None]:
    """Compare files with what the plan was made for, in a thread beside the block, which must not publish anything.

    Raises:
        UserError: at the block's end, where they are others; before any UserError of the block, which follows from it.
    """
    if not isinstance(source, FileSource):
        yield
        return
    stop = Event()
    with ThreadPoolExecutor(1) as thread:
        comparison = thread.submit(require_unchanged, source, stop=stop)
        try:
            yield
            comparison.result()
        except UserError:
            comparison.result()
            raise
        finally:
            stop.set()


def _place(spec: IngestedPoolSpec) -> str:
    """Where the images lie, for a message."""
    if isinstance(spec.source, FileSource):
        return ", ".join(spec.source.location)
    return _phrase(spec)


def _phrase(spec: IngestedPoolSpec) -> str:
    """What the images are, for pool.json; without a folder, so that a pool is the same wherever its source lies."""
    match spec.source:
        case DigitsSource():
            return f"scikit-learn's digits, {spec.split}"
        case TorchvisionSource(name=name):
            return f"torchvision's {name}, {spec.split}"
        case FileSource(format=form, digest=digest):
            return f"{form} files with the SHA-256 {digest}"
