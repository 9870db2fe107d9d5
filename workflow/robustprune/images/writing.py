"""Writing a pool block by block: with the memory of a few blocks, and a killed job goes on from the last one saved."""

import math
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from robustprune.core.device import keep_freed_memory
from robustprune.core.errors import UserError
from robustprune.core.files import write_text
from robustprune.core.job import Job
from robustprune.images.contact_sheet import SHEET_FILE, contact_sheet
from robustprune.images.formats.registry import storage
from robustprune.images.formats.stream import BLOCK_BYTES, Block, Blocks, ImageStream, in_blocks
from robustprune.images.growing import GrowingArray, holds_rows
from robustprune.images.pool import (
    DIGESTS_FILE,
    IMAGES_FILE,
    INFO_FILE,
    LABELS_FILE,
    AnyLabels,
    Images,
    PoolInfo,
    check_images,
    image_digests,
    joint_digest,
)

if TYPE_CHECKING:
    from robustprune.images.ingested import IngestedPoolStage


DEFINITION = {"pools.format": 4, "pools.writing": 1}
STATE_FILE = "writing.json"
SAVED_BYTES = 2**26  # of pixels, after which what was written is brought to the disk and counts as done


def fill_pool(
    job: Job,
    blocks: Blocks,
    *,
    count: int,
    image_shape: tuple[int, int, int],
    classes: int,
    dataset: str,
    source: str,
    origin: str | None = None,
) -> PoolInfo:
    """Write a pool into ``partial/``; ``publish_pool`` moves it to its place.

    Args:
        job: the running stage.
        blocks: the images, from a row on; it is called once, with the first row that no earlier attempt has saved.
        count: images in all.
        image_shape: channels, height, width.
        classes: number of classes.
        dataset: short name of the data set.
        source: a phrase that says where the images came from; without a folder, so that a pool is the same anywhere.
        origin: where the images lie, for a message; ``source`` by default.

    Raises:
        UserError: naming ``origin``, when a block cannot be part of the pool, or there are no images or not ``count``.
        Interrupted: after a signal, with what was written saved.
    """
    if count == 0:
        raise UserError(f"{origin or source}: there are no images")
    state = _read_state(job.partial / STATE_FILE, count, image_shape)
    keep_freed_memory()
    if not state.digests:
        with _PoolWriter(job.partial, state, classes=classes, origin=origin or source) as writer:
            with job.progress("writing images", total=count, unit="images", done=state.rows) as progress:
                _copy(job, blocks(state.rows), writer, progress.advance)
            writer.finish(dataset=dataset, source=source)
    return PoolInfo.model_validate_json(job.output(INFO_FILE).read_text())


@storage("decoded")
def fill_decoded(job: Job, spec: "IngestedPoolStage", stream: ImageStream) -> Callable[[Job], dict[str, Any]]:
    """Write a stream's pixels as the pool of its stage; what is returned publishes it."""
    fill_pool(
        job,
        stream.blocks,
        count=stream.count,
        image_shape=spec.image_shape,
        classes=spec.classes,
        dataset=spec.dataset,
        source=spec.phrase,
        origin=spec.place,
    )
    return publish_pool


def publish_pool(job: Job) -> dict[str, Any]:
    """Publish what ``fill_pool`` wrote, with a contact sheet.

    Returns:
        count, class_counts and digest of the pool, for the record.
    """
    state = _State.model_validate_json((job.partial / STATE_FILE).read_text())
    info = PoolInfo.model_validate_json(job.output(INFO_FILE).read_text())
    images, labels = (np.load(job.output(name), mmap_mode="r") for name in (IMAGES_FILE, LABELS_FILE))
    contact_sheet(images, labels, info.classes).save(job.partial / SHEET_FILE)
    job.publish(IMAGES_FILE, LABELS_FILE, DIGESTS_FILE, INFO_FILE, SHEET_FILE, digests=state.digests)
    return {"count": info.count, "class_counts": list(info.class_counts), "digest": info.digest}


def write_pool(job: Job, images: Images, labels: AnyLabels, *, dataset: str, source: str, classes: int) -> PoolInfo:
    """Write arrays as this job's pool and publish it; the arguments are those of ``fill_pool``."""
    check_images(images, labels, origin=source, classes=classes, image_shape=images.shape[1:])
    info = fill_pool(
        job,
        in_blocks(images, labels),
        count=len(images),
        image_shape=images.shape[1:],
        classes=classes,
        dataset=dataset,
        source=source,
    )
    publish_pool(job)
    return info


def _copy(job: Job, blocks: Iterable[Block], writer: "_PoolWriter", advance: Callable[[int], None]) -> None:
    with job.checkpoints:
        for images, labels in blocks:
            writer.append(images, labels)
            advance(len(images))
            job.checkpoints.tick(writer.save)


class _State(BaseModel):
    """writing.json: how far the writing of a pool is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    image_shape: tuple[int, int, int]
    rows: int = 0  # on the disk
    digests: dict[str, str] = {}  # of each file, once the pool is whole


def _read_state(path: Path, count: int, image_shape: tuple[int, int, int]) -> _State:
    """Return what an earlier attempt saved; nothing where it wrote another pool or its files are not there."""
    fresh = _State(count=count, image_shape=image_shape)
    try:
        state = _State.model_validate_json(path.read_text())
    except (OSError, ValidationError):
        return fresh
    files = {name: (path.parent / name, row_bytes) for name, row_bytes in _row_bytes(image_shape).items()}
    same = (state.count, state.image_shape) == (count, image_shape)
    whole = state.digests or all(holds_rows(file, state.rows, row_bytes) for file, row_bytes in files.values())
    return state if same and whole else fresh


def _row_bytes(image_shape: tuple[int, int, int]) -> dict[str, int]:
    return {IMAGES_FILE: math.prod(image_shape), LABELS_FILE: 2, DIGESTS_FILE: 8}


class _PoolWriter:
    """Appends checked blocks; hashing, writing and syncing go on in threads while the next block is read."""

    def __init__(self, folder: Path, state: _State, *, classes: int, origin: str) -> None:
        self._folder, self._state, self._classes, self._origin = folder, state, classes, origin
        self._appended = self._due_since = state.rows
        self._writing: Future[None] | None = None
        self._saving: Future[None] | None = None

    def __enter__(self) -> Self:
        count, shape, rows = self._state.count, self._state.image_shape, self._state.rows
        arrays = {IMAGES_FILE: ((count, *shape), "u1"), LABELS_FILE: ((count,), "<i2"), DIGESTS_FILE: ((count,), "<u8")}
        with ExitStack() as opening:
            self._files = [
                opening.enter_context(GrowingArray(self._folder / name, size, dtype, rows=rows))
                for name, (size, dtype) in arrays.items()
            ]
            self._threads = opening.enter_context(ThreadPoolExecutor(2))  # last in, first out: it ends before its files
            self._context = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def append(self, images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
        """Check a block and hand it to the writing thread, once that is done with the one before.

        The arrays must not be changed afterwards.
        """
        origin = self._origin
        check_images(images, labels, origin=origin, classes=self._classes, image_shape=self._state.image_shape)
        if self._appended + len(images) > self._state.count:
            raise UserError(f"{origin}: there are more images than the {self._state.count} it states")
        if self._writing is not None:
            self._writing.result()
            self._save_when_due()
        self._appended += len(images)
        self._writing = self._threads.submit(self._write, images, labels)

    def save(self) -> None:
        """Bring all that was appended to the disk, for a later attempt to go on from."""
        self._settle()
        self._save(self._appended)

    def finish(self, *, dataset: str, source: str) -> None:
        """Write pool.json and mark the pool as whole."""
        self._settle()
        if self._appended != self._state.count:
            stated = self._state.count
            raise UserError(f"{self._origin}: it states {stated} images, but {self._appended} were found")
        digests = {file.path.name: file.digest for file in self._files}
        info = PoolInfo(
            dataset=dataset,
            source=source,
            classes=self._classes,
            image_shape=self._state.image_shape,
            count=self._state.count,
            class_counts=self._class_counts(),
            digest=joint_digest(digests[IMAGES_FILE], digests[LABELS_FILE]),
        )
        write_text(self._folder / INFO_FILE, info.model_dump_json(indent=2) + "\n")
        self._save(self._appended, digests)

    def _settle(self) -> None:
        for task in (self._writing, self._saving):
            if task is not None:
                task.result()

    def _write(self, images: Images, labels: AnyLabels) -> None:
        columns: tuple[npt.NDArray[Any], ...] = (images, labels, image_digests(images))
        for file, rows in zip(self._files, columns, strict=True):
            file.append(rows)

    def _save_when_due(self) -> None:
        """Save what is written by now, where it is a lot and the last save is done."""
        written = self._appended
        due = (written - self._due_since) * math.prod(self._state.image_shape) >= SAVED_BYTES
        if due and (self._saving is None or self._saving.done()):
            if self._saving is not None:
                self._saving.result()  # for what it raised
            self._due_since = written
            self._saving = self._threads.submit(self._save, written)

    def _save(self, rows: int, digests: dict[str, str] | None = None) -> None:
        for file in self._files:
            file.sync()
        state = self._state.model_copy(update={"rows": rows, "digests": digests or {}})
        write_text(self._folder / STATE_FILE, state.model_dump_json() + "\n")

    def _class_counts(self) -> tuple[int, ...]:
        labels = np.load(self._folder / LABELS_FILE, mmap_mode="r")
        counts = np.zeros(self._classes, np.int64)
        for start in range(0, len(labels), BLOCK_BYTES):
            counts += np.bincount(labels[start : start + BLOCK_BYTES], minlength=self._classes)
        return tuple(counts.tolist())
