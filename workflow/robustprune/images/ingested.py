"""A pool of real or ready-made images, brought into the pool format."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from robustprune.core.declarations import Named
from robustprune.core.errors import UserError
from robustprune.core.files import write_text
from robustprune.core.job import Job
from robustprune.core.record import read_record
from robustprune.core.stage import PoolId
from robustprune.core.work import UnknownSizeError, bytes_of_image
from robustprune.images.formats.data_format import FORMATS, STORAGES
from robustprune.images.formats.listing import image_files
from robustprune.images.pool import PoolStage, Stages
from robustprune.images.settings import PICTURE_FORMATS, Overlap, Storage
from robustprune.images.sources import FileSource, RealSource, planned_files, planned_rows, require_unchanged

if TYPE_CHECKING:
    from robustprune.images.formats.stream import ImageStream
    from robustprune.planning.plan import Plan


READ_FILE = "read.txt"  # state of the files that the images in partial/ are from


class IngestedPoolStage(PoolStage):
    """Real or ready-made images, brought into the pool format."""

    resources = "ingest"
    uses_device = False
    origin: Literal["ingested"] = "ingested"
    split: Literal["train", "test", "synthetic"]
    source: RealSource
    train: PoolId | None = Field(None, description="the pool of which equal images are counted")
    test: PoolId | None = Field(None, description="the pool of which it should have no image")
    overlap: Overlap = Field("refused", description="whether it may have some all the same")
    storage: Annotated[Storage, Named(STORAGES)] = Field(
        "decoded", description="whether it has the source's pictures as they are, or pixels"
    )

    @property
    def slug(self) -> str:
        return f"{self.dataset}-{self.split}"

    def planned_count(self, stages: Stages) -> int | None:
        return planned_rows(self.source, self.split)

    @property
    def place(self) -> str:
        """Place of the images, for messages."""
        return ", ".join(self.source.location) if isinstance(self.source, FileSource) else self.phrase

    @property
    def phrase(self) -> str:
        """Source of the images for pool.json; without their folder, so that a pool is the same on any machine."""
        return self.source.phrase(self.split)

    @model_validator(mode="after")
    def _has_pictures(self) -> IngestedPoolStage:
        if self.storage == "encoded" and self.source.format not in PICTURE_FORMATS:
            raise ValueError(f"a pool from {self.source.format} has pixels, which are not kept encoded")
        return self

    def bytes_left(self, plan: Plan, parameters: Mapping[str, int]) -> int:
        """Return the size of the pixels and labels; raise UnknownSizeError for encoded images."""
        if self.storage == "encoded":
            raise UnknownSizeError(self.id)
        return plan.count(self.id) * bytes_of_image(self.image_shape)

    def run(self, job: Job) -> dict[str, Any]:
        """Make the pool; return count, class_counts, digest, and images that are repeated or also in other pools.

        Raises:
            UserError: naming the file that is missing, broken or does not fit ``data.classes`` and
                ``data.image_shape``.
        """
        from robustprune.images.duplicates import facts_of_duplicates

        with _unchanged(job, self.source):
            stream = FORMATS[self.source.format].open_stream(self)
            _require_same_classes(job, self, stream)
            publish = STORAGES[self.storage](job, self, stream)
        found = facts_of_duplicates(job, train=self.train, test=self.test, overlap=self.overlap, place=self.place)
        return {**publish(job), **found, **stream.facts}


def _require_same_classes(job: Job, spec: IngestedPoolStage, stream: ImageStream) -> None:
    """Raise UserError if other pools have other class names: a label is the place of a class among the sorted names."""
    for pool in filter(None, (spec.train, spec.test) if "class_names" in stream.facts else ()):
        names = read_record(job.upstream("pools", pool)).facts.get("class_names")
        if names is not None and (other := set(names) ^ set(stream.facts["class_names"])):
            found = ", ".join(sorted(other)[:5])
            raise UserError(f"{spec.place}: {found} should be a class both of it and of the pool {pool}")


@contextmanager
def _unchanged(job: Job, source: RealSource) -> Iterator[None]:
    """Compare files with those of the plan, in a thread next to the block, which must not publish anything.

    What other files left in ``partial/`` is deleted, as a later attempt would continue from it.

    Raises:
        UserError: at the end of the block, if they differ; instead of the block's UserError, which follows from it.
    """
    if not isinstance(source, FileSource):
        yield
        return
    state, stop, state_file = _state_of(source), Event(), job.partial / READ_FILE
    if not state_file.is_file() or state_file.read_text() != state:
        _empty(job.partial)
        write_text(state_file, state)
    with ThreadPoolExecutor(1) as thread:
        comparison = thread.submit(require_unchanged, source, stop=stop)
        try:
            yield
        except UserError:
            _require_as_planned(job, comparison, source, state)
            raise
        else:
            _require_as_planned(job, comparison, source, state)
        finally:
            stop.set()


def _require_as_planned(job: Job, comparison: Future[None], source: FileSource, state: str) -> None:
    try:
        comparison.result()
        _require_state(source, state)
    except UserError:
        _empty(job.partial)
        raise


def _require_state(source: FileSource, state: str) -> None:
    if _state_of(source) != state:  # changed after they were compared, and perhaps before they were read
        raise UserError(f"{', '.join(source.location)}: the files changed while they were read; plan again")


def _state_of(source: FileSource) -> str:
    """Return the SHA-256 of paths, sizes, times and inodes of all files, or of the pictures in a folder."""
    hasher = hashlib.sha256()
    for file in planned_files(source):
        for path in [file / picture.path for picture in image_files(file)] if file.is_dir() else [file]:
            status = path.stat()
            hasher.update(os.fsencode(f"{path}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}\n"))
    return hasher.hexdigest()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
