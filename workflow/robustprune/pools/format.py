"""The pool: images and labels as memory-mapped arrays, and a page that says what they are.

A sample's id is its row in its pool, for ever.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from robustprune.errors import UserError
from robustprune.files import digest, write_text
from robustprune.job import Job

DEFINITION = 1
IMAGES_FILE, LABELS_FILE, INFO_FILE = "images.npy", "labels.npy", "pool.json"
IMAGES_AT_ONCE = 4096  # copied into the file at once

Images = npt.NDArray[np.uint8]  # (N, C, H, W)
Labels = npt.NDArray[np.int16]  # (N,)
AnyLabels = npt.NDArray[np.integer[Any]]  # (N,), as a source has them


class PoolInfo(BaseModel):
    """pool.json: what the arrays beside it hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    source: str
    classes: int
    image_shape: tuple[int, int, int]  # channels, height, width
    count: int
    class_counts: tuple[int, ...]
    digest: str  # SHA-256 of images.npy and labels.npy together


@dataclass(frozen=True)
class Pool:
    """An open pool.

    Attributes:
        images: (N, C, H, W) uint8, memory-mapped.
        labels: (N,) int16 in 0 ... classes - 1.
        info: the content of pool.json.
    """

    images: Images
    labels: Labels
    info: PoolInfo

    def __len__(self) -> int:
        return len(self.labels)


def open_pool(directory: Path) -> Pool:
    """Open the pool in a stage's directory; only pool.json and array headers are read.

    Raises:
        UserError: when a file is missing, malformed, or does not have the shape that pool.json states.
    """
    try:
        info = PoolInfo.model_validate_json((directory / INFO_FILE).read_text())
        images = np.lib.format.open_memmap(directory / IMAGES_FILE, mode="r")
        labels = np.array(np.lib.format.open_memmap(directory / LABELS_FILE, mode="r"))
    except (OSError, ValueError) as error:  # pydantic's ValidationError is a ValueError
        raise UserError(f"{directory} is not a readable pool: {' '.join(str(error).split())}") from None
    expected = (info.count, *info.image_shape)
    if images.shape != expected or images.dtype != np.uint8:
        raise UserError(
            f"{directory / IMAGES_FILE} is {images.dtype} {images.shape}, pool.json states uint8 {expected}"
        )
    if labels.shape != (info.count,) or labels.dtype != np.int16:
        raise UserError(
            f"{directory / LABELS_FILE} is {labels.dtype} {labels.shape}, pool.json states int16 ({info.count},)"
        )
    return Pool(images, labels, info)


def check_images(
    images: npt.NDArray[Any], labels: npt.NDArray[Any], *, origin: str, classes: int, image_shape: tuple[int, int, int]
) -> None:
    """Refuse arrays that cannot be a pool. Raises UserError naming ``origin``, the value and what is allowed."""
    if images.dtype != np.uint8:
        raise UserError(f"{origin}: images are {images.dtype}, but should be uint8 in 0 ... 255")
    if images.shape[1:] != image_shape:
        raise UserError(f"{origin}: images have shape {images.shape[1:]}, but data.image_shape is {image_shape}")
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise UserError(f"{origin}: labels are {labels.dtype} {labels.shape}, but should be integers, one an image")
    if len(images) == 0 or len(images) != len(labels):
        raise UserError(f"{origin}: {len(images)} images and {len(labels)} labels; there should be as many, and some")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise UserError(f"{origin}: labels go from {low} to {high}, but data.classes allows 0 to {classes - 1}")


def write_pool(job: Job, images: Images, labels: AnyLabels, *, dataset: str, source: str, classes: int) -> PoolInfo:
    """Write checked arrays as this job's pool and publish it.

    Args:
        job: the running stage.
        images: (N, C, H, W) uint8.
        labels: (N,) integers in 0 ... classes - 1.
        dataset: short name of the data set.
        source: a phrase that says where the images came from.
        classes: number of classes.
    """
    shape = (images.shape[1], images.shape[2], images.shape[3])
    check_images(images, labels, origin=source, classes=classes, image_shape=shape)
    _save_images(job.partial / IMAGES_FILE, images)
    stored_labels = labels.astype(np.int16)
    np.save(job.partial / LABELS_FILE, stored_labels, allow_pickle=False)
    info = PoolInfo(
        dataset=dataset,
        source=source,
        classes=classes,
        image_shape=shape,
        count=len(images),
        class_counts=tuple(np.bincount(stored_labels, minlength=classes).tolist()),
        digest=pool_digest(job.partial),
    )
    write_text(job.partial / INFO_FILE, info.model_dump_json(indent=2) + "\n")
    job.publish(IMAGES_FILE, LABELS_FILE, INFO_FILE)
    return info


def _save_images(path: Path, images: Images) -> None:
    """The bytes np.save would write for a contiguous array, but 6 times as fast for a view with channels moved."""
    header = {"descr": images.dtype.str, "fortran_order": False, "shape": images.shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(images), IMAGES_AT_ONCE):
            file.write(np.ascontiguousarray(images[start : start + IMAGES_AT_ONCE]).data)


def pool_digest(directory: Path) -> str:
    """SHA-256 of the digests of images.npy and labels.npy: what a pool's content is known by elsewhere."""
    parts = (digest(directory / IMAGES_FILE), digest(directory / LABELS_FILE))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
