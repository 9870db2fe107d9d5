"""The stage ``pools``: images are brought in, or drawn from a generator, and put into the pool format."""

import importlib
from typing import Any

from robustprune.blocks import RowPass
from robustprune.job import Job
from robustprune.pools.format import check_images
from robustprune.pools.writing import fill_pool, in_blocks, publish_pool
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
    ingest = importlib.import_module(f"robustprune.pools.ingest.{spec.source.format}")
    images, labels = ingest.read(spec)
    check_images(images, labels, origin=_place(spec), classes=spec.classes, image_shape=spec.image_shape)
    fill_pool(
        job,
        in_blocks(images, labels),
        count=len(images),
        image_shape=spec.image_shape,
        classes=spec.classes,
        dataset=spec.dataset,
        source=_phrase(spec),
        origin=_place(spec),
    )
    return publish_pool(job)


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
