"""The pool: images and labels as memory-mapped arrays, and a page that says what they are.

A sample's id is its row in its pool, for ever. ``writing`` writes pools.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from robustprune.errors import UserError
from robustprune.files import digest

DEFINITION = 2
IMAGES_FILE, LABELS_FILE, INFO_FILE = "images.npy", "labels.npy", "pool.json"
DIGESTS_FILE = "image_digests.npy"  # what duplicates are found by

Images = npt.NDArray[np.uint8]  # (N, C, H, W)
Labels = npt.NDArray[np.int16]  # (N,)
AnyLabels = npt.NDArray[np.integer[Any]]  # (N,), as a source has them
Digests = npt.NDArray[np.uint64]  # (N,)


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
        labels: (N,) int16 in 0 ... classes - 1, memory-mapped.
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
        labels = np.lib.format.open_memmap(directory / LABELS_FILE, mode="r").view(np.ndarray)
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


def pool_digest(directory: Path) -> str:
    """SHA-256 of the digests of images.npy and labels.npy: what a pool's content is known by elsewhere."""
    return joint_digest(digest(directory / IMAGES_FILE), digest(directory / LABELS_FILE))


def joint_digest(images: str, labels: str) -> str:
    """The digest of a pool from the SHA-256 of its two files."""
    return hashlib.sha256(f"{images}\n{labels}".encode()).hexdigest()


def image_digests(images: Images) -> Digests:
    """(N,) uint64: of each image the first 8 bytes of the SHA-256 of its pixels, in the pool's order.

    Equal images have equal digests. That two of N different ones have is as likely as N^2 / 2^65: 1 in 10^4 for fifty
    million images.
    """
    digests = b"".join(hashlib.sha256(image).digest()[:8] for image in np.ascontiguousarray(images))
    return np.frombuffer(digests, "<u8")
