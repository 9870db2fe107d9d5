"""Write a pool block by block, in little memory; a killed job continues at the last saved block."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from robustprune.core.device import keep_freed_memory
from robustprune.core.errors import UserError
from robustprune.core.files import hash_lines, write_text
from robustprune.core.job import Job
from robustprune.core.settings import Settings
from robustprune.core.stage import ImageShape
from robustprune.images import pool
from robustprune.images.contact_sheet import publish_with_sheet
from robustprune.images.formats.data_format import storage
from robustprune.images.formats.stream import Blocks, ImageStream, in_blocks
from robustprune.images.growing import GrowingArray

if TYPE_CHECKING:
    from robustprune.images.ingested import IngestedPoolStage


DEFINITION = {"pools.format": 4, "pools.writing": 1}
STATE_FILE = "writing.json"
SAVED_BYTES = 2**26  # of pixels, after which what was written is brought to the disk and counts as done


def fill_pool(
    job: Job, blocks: Blocks, *, count: int, source: str, origin: str | None = None, **form: Unpack[pool.PoolForm]
) -> pool.PoolInfo:
    """Write a pool into ``partial/``; ``publish_pool`` publishes it.

    ``blocks`` is called once, with the first row to write. ``source`` says where the images came from, without a
    folder, so that a pool is the same on any machine; ``origin`` says where they are, for messages.

    Raises:
        UserError: naming ``origin``, if a block cannot be part of the pool, or there are no images or not ``count``.
        Interrupted: after a signal, with what was written saved.
    """
    origin = origin or source
    if count == 0:
        raise UserError(f"{origin}: there are no images")
    state = _read_state(job.partial / STATE_FILE, count, form["image_shape"])
    keep_freed_memory()
    if not state.digests:
        with ExitStack() as stack:
            writer = _PoolWriter(stack, job.partial, state, form, origin)
            progress = job.progress("writing images", total=count, unit="images", done=state.rows)
            with progress, job.checkpoints:
                for images, labels in blocks(state.rows):
                    writer.append(images, labels)
                    progress.advance(len(images))
                    job.checkpoints.tick(writer.save)
            writer.finish(source)
    return pool.read_info(job.output(pool.INFO_FILE))


@storage("decoded")
def fill_decoded(job: Job, spec: "IngestedPoolStage", stream: ImageStream) -> Callable[[Job], dict[str, Any]]:
    """Write a stream's pixels as the pool of its stage; return the function that publishes it."""
    fill_pool(job, stream.blocks, count=stream.count, source=spec.phrase, origin=spec.place, **spec.form)
    return publish_pool


def publish_pool(job: Job) -> dict[str, Any]:
    """Publish what ``fill_pool`` wrote, with a contact sheet; return count, class_counts and digest."""
    state = _State.model_validate_json((job.partial / STATE_FILE).read_text())
    names = (pool.IMAGES_FILE, pool.LABELS_FILE, pool.DIGESTS_FILE, pool.INFO_FILE)
    return publish_with_sheet(job, *names, digests=state.digests)


def write_pool(
    job: Job, images: pool.Images, labels: pool.AnyLabels, *, dataset: str, source: str, classes: int
) -> pool.PoolInfo:
    """Write arrays as this job's pool and publish it; the arguments are those of ``fill_pool``."""
    form: pool.PoolForm = {"dataset": dataset, "classes": classes, "image_shape": images.shape[1:]}
    pool.check_images(images, labels, origin=source, classes=classes, image_shape=form["image_shape"])
    info = fill_pool(job, in_blocks(images, labels), count=len(images), source=source, **form)
    publish_pool(job)
    return info


class _State(Settings):
    """writing.json: how much of a pool is written."""

    count: int
    image_shape: ImageShape
    rows: int = 0  # on the disk
    digests: dict[str, str] = Field({}, description="of each file, once the pool is complete")

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of each file."""
        return {
            pool.IMAGES_FILE: ((self.count, *self.image_shape), "u1"),
            pool.LABELS_FILE: ((self.count,), "<i2"),
            pool.DIGESTS_FILE: ((self.count,), "<u8"),
        }


def _read_state(path: Path, count: int, image_shape: ImageShape) -> _State:
    """Return what an earlier attempt saved; nothing if it wrote another pool or its files are incomplete."""
    fresh = _State(count=count, image_shape=image_shape)
    try:
        state = _State.model_validate_json(path.read_text())
    except (OSError, ValidationError):
        return fresh
    same = (state.count, state.image_shape) == (count, image_shape)
    complete = state.digests or all(_is_array(path.with_name(name), *form) for name, form in state.arrays.items())
    return state if same and complete else fresh


def _is_array(path: Path, shape: tuple[int, ...], dtype: str) -> bool:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError):
        return False
    return (array.shape, array.dtype) == (shape, np.dtype(dtype))


class _PoolWriter:
    """Appends checked blocks; hashing, writing and syncing go on in threads while the next block is read."""

    def __init__(self, stack: ExitStack, folder: Path, state: _State, form: pool.PoolForm, origin: str) -> None:
        self._folder, self._state, self._form, self._origin = folder, state, form, origin
        self._files = [
            stack.enter_context(GrowingArray(folder / name, shape, dtype, rows=state.rows))
            for name, (shape, dtype) in state.arrays.items()
        ]
        self._threads = stack.enter_context(ThreadPoolExecutor(2))  # last in, first out: it ends before its files
        self._appended = self._due_since = state.rows
        self._writing = self._saving = self._threads.submit(lambda: None)

    def append(self, images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
        """Check a block and hand it to the writing thread, once that has written the block before.

        The arrays must not be changed afterwards.
        """
        origin, stated, shape = self._origin, self._state.count, self._state.image_shape
        pool.check_images(images, labels, origin=origin, classes=self._form["classes"], image_shape=shape)
        if self._appended + len(images) > stated:
            raise UserError(f"{origin}: there are more images than the {stated} it states")
        self._writing.result()
        self._save_when_due()
        self._appended += len(images)
        self._writing = self._threads.submit(self._write, images, labels)

    def save(self, digests: dict[str, str] | None = None) -> None:
        """Bring all that was appended to the disk, where a later attempt continues; ``digests`` once it is complete."""
        self._writing.result()
        self._saving.result()
        self._save(self._appended, digests)

    def finish(self, source: str) -> None:
        """Write pool.json and mark the pool as complete."""
        self._writing.result()
        if self._appended != self._state.count:
            stated = self._state.count
            raise UserError(f"{self._origin}: it states {stated} images, but {self._appended} were found")
        digests = {file.path.name: file.digest for file in self._files}
        joint = hash_lines([digests[pool.IMAGES_FILE], digests[pool.LABELS_FILE]])
        labels = np.load(self._folder / pool.LABELS_FILE, mmap_mode="r")
        pool.write_info(self._folder, labels, source=source, digest=joint, **self._form)
        self.save(digests)

    def _write(self, images: pool.Images, labels: pool.AnyLabels) -> None:
        columns: tuple[npt.NDArray[Any], ...] = (images, labels, pool.image_digests(images))
        for file, rows in zip(self._files, columns, strict=True):
            file.append(rows)

    def _save_when_due(self) -> None:
        """Save what is written by now, if it is a lot and the last save is done."""
        written = self._appended
        due = (written - self._due_since) * math.prod(self._state.image_shape) >= SAVED_BYTES
        if due and self._saving.done():
            self._saving.result()  # for what it raised
            self._due_since = written
            self._saving = self._threads.submit(self._save, written)

    def _save(self, rows: int, digests: dict[str, str] | None = None) -> None:
        for file in self._files:
            file.sync()
        state = self._state.model_copy(update={"rows": rows, "digests": digests or {}})
        write_text(self._folder / STATE_FILE, state.model_dump_json() + "\n")
