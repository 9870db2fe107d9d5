"""The stage ``pools``: images are brought in, or drawn from a generator, and put into the pool format."""

import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

from robustprune.blocks import RowPass
from robustprune.errors import UserError
from robustprune.job import Job
from robustprune.pools.duplicates import facts_of_overlaps, facts_of_repeats
from robustprune.pools.ingest.stream import ImageStream
from robustprune.pools.writing import fill_pool, publish_pool
from robustprune.sources import require_unchanged
from robustprune.specs import DigitsSource, FileSource, GeneratedPoolSpec, IngestedPoolSpec, TorchvisionSource


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
        publish = _fill(job, spec, stream)
    others, allowed = {"train": spec.train, "test": spec.test}, spec.overlap == "allowed"
    found = {**facts_of_repeats(job), **facts_of_overlaps(job, others, allowed=allowed, place=_place(spec))}
    return {**publish(job), **found, **stream.facts}


def _fill(job: Job, spec: IngestedPoolSpec, stream: ImageStream) -> Callable[[Job], dict[str, Any]]:
    """Write the pool as its spec wants it kept; what is returned publishes it."""
    if spec.storage == "decoded":
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
        return publish_pool
    from robustprune.pools.encoding import fill_encoded_pool, publish_encoded_pool  # brings pyarrow

    assert stream.pictures is not None  # the spec is refused otherwise
    fill_encoded_pool(
        job,
        stream.pictures.images,
        count=stream.count,
        image_shape=spec.image_shape,
        classes=spec.classes,
        dataset=spec.dataset,
        source=_phrase(spec),
        folder=stream.pictures.folder,
    )
    return publish_encoded_pool


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
            return f"{form} files with the digest {digest}"
