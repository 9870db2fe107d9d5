"""The pool: images, labels, and a page that says what they are.

The images are a memory-mapped array, encoded ones (``encoded``), or rows of other pools (``views``); whoever opens a
pool need not know which. A sample's id is its row in its pool, for ever. Pools are written by ``writing``, ``encoding``
and ``subpools``.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xxhash
from pydantic import BaseModel, ConfigDict

from robustprune.core.errors import UserError
from robustprune.core.files import digest
from robustprune.core.paths import POOL_FILE
from robustprune.core.settings import Exact
from robustprune.images.encoded import EncodedImages
from robustprune.images.rows import ChosenImages, JoinedImages, PoolImages

IMAGES_FILE, LABELS_FILE, INFO_FILE = "images.npy", "labels.npy", POOL_FILE
DIGESTS_FILE = "image_digests.npy"  # what duplicates are found by
ROWS_FILE = "rows.npy"  # int64: of a pool that is part of others, which of their rows it has

Images = npt.NDArray[np.uint8]  # (N, C, H, W)
Labels = npt.NDArray[np.int16]  # (N,)
AnyLabels = npt.NDArray[np.integer[Any]]  # (N,), as a source has them
Digests = npt.NDArray[np.uint64]  # (N,)


class Member(BaseModel):
    """A pool whose images are another one's, too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: str  # the stage's id, and the name of its directory beside
    digest: str
    count: int
    share: Exact | None = None  # of the generated images of a batch; None where it follows from the numbers


class PoolInfo(BaseModel):
    """pool.json: what the files beside it hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    source: str
    classes: int
    image_shape: tuple[int, int, int]  # channels, height, width
    count: int
    class_counts: tuple[int, ...]
    digest: str  # of images.npy and labels.npy together; of a part of other pools, of theirs and of its rows
    storage: Literal["array", "encoded", "view"] = "array"
    members: tuple[Member, ...] = ()  # of a view: the pools whose images it has, one after the other
    selected: tuple[str, ...] = ()  # how these images were chosen for their quality; nothing where here they were not


@dataclass(frozen=True)
class Pool:
    """An open pool.

    Attributes:
        images: (N, C, H, W) uint8, read when a row is asked for.
        labels: (N,) int16 in 0 ... classes - 1, memory-mapped.
        info: the content of pool.json.
    """

    images: PoolImages
    labels: Labels
    info: PoolInfo

    def __len__(self) -> int:
        return len(self.labels)


def open_pool(directory: Path) -> Pool:
    """Open the pool in a stage's directory; only pool.json and array headers are read.

    Raises:
        UserError: when a file is missing, malformed, or does not have the shape that pool.json states; or when the
            pool's images are those of another one that is gone or was made anew.
    """
    try:
        info = PoolInfo.model_validate_json((directory / INFO_FILE).read_text())
        images = _open_images(directory, info)
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


def _open_images(directory: Path, info: PoolInfo) -> PoolImages:
    match info.storage:
        case "array":
            array: Images = np.lib.format.open_memmap(directory / IMAGES_FILE, mode="r")
            return array
        case "encoded":
            return EncodedImages(directory, info.image_shape)
        case "view":
            return _open_view(directory, info)


def _open_view(directory: Path, info: PoolInfo) -> PoolImages:
    joined = JoinedImages([_open_member(directory, member) for member in info.members])
    if not (directory / ROWS_FILE).exists():
        return joined
    rows = np.lib.format.open_memmap(directory / ROWS_FILE, mode="r").view(np.ndarray)
    if rows.dtype != np.int64 or rows.ndim != 1:
        raise ValueError(f"{ROWS_FILE} is {rows.dtype} {rows.shape}, not a list of int64")
    return ChosenImages(joined, rows)


def _open_member(directory: Path, member: Member) -> PoolImages:
    beside = directory.parent / member.pool
    if not (beside / INFO_FILE).is_file():
        raise UserError(
            f"{directory} has images of the pool {member.pool}, which is not there any more; make it again with "
            f"'robustprune run {beside}'"
        )
    pool = open_pool(beside)
    if pool.info.digest != member.digest:
        raise UserError(
            f"{directory} has images of the pool {member.pool} as it was with the digest {member.digest[:16]}, but it "
            f"is another one now ({pool.info.digest[:16]}); delete {directory} to make it anew"
        )
    return pool.images


def read_digests(directory: Path) -> Digests:
    """(N,) uint64, memory-mapped: the digest of each image of the pool in a directory. Raises UserError."""
    try:
        digests: Digests = np.lib.format.open_memmap(directory / DIGESTS_FILE, mode="r").view(np.ndarray)
    except (OSError, ValueError) as error:
        raise UserError(f"{directory / DIGESTS_FILE} cannot be read: {error}") from None
    return digests


def check_images(
    images: npt.NDArray[Any], labels: npt.NDArray[Any], *, origin: str, classes: int, image_shape: tuple[int, int, int]
) -> None:
    """Refuse arrays that cannot be a pool. Raises UserError naming ``origin``, the value and what is allowed."""
    check_form((images.shape, images.dtype), (labels.shape, labels.dtype), origin=origin, expected=image_shape)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise UserError(f"{origin}: labels go from {low} to {high}, but data.classes allows 0 to {classes - 1}")


Form = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and dtype of an array."""


def check_form(images: Form, labels: Form, *, origin: str, expected: tuple[int, int, int]) -> None:
    """The part of ``check_images`` for which no pixel is read."""
    (shape, dtype), (label_shape, label_dtype) = images, labels
    if dtype != np.uint8:
        raise UserError(f"{origin}: images are {dtype}, but should be uint8 in 0 ... 255")
    if shape[1:] != expected:
        raise UserError(f"{origin}: images have shape {shape[1:]}, but data.image_shape is {expected}")
    if not np.issubdtype(label_dtype, np.integer) or len(label_shape) != 1:
        raise UserError(f"{origin}: labels are {label_dtype} {label_shape}, but should be integers, one an image")
    if shape[0] == 0 or shape[0] != label_shape[0]:
        raise UserError(f"{origin}: {shape[0]} images and {label_shape[0]} labels; there should be as many, and some")


def pool_digest(directory: Path) -> str:
    """SHA-256 of the digests of images.npy and labels.npy: what a pool's content is known by elsewhere."""
    return joint_digest(digest(directory / IMAGES_FILE), digest(directory / LABELS_FILE))


def joint_digest(images: str, labels: str) -> str:
    """The digest of a pool from those of its two files."""
    return hashlib.sha256(f"{images}\n{labels}".encode()).hexdigest()


def image_digests(images: Images) -> Digests:
    """(N,) uint64: the XXH3 of each image's pixels, (C, H, W) in memory.

    Equal images have equal digests, so none that is there twice is missed. That two of N different ones have is as
    likely as N^2 / 2^65: 1 in 10^4 for fifty million images. SHA-256 takes ten times as long, and what it has beyond
    that is not needed: that nobody can make different images on purpose which are taken for equal.
    """
    return np.fromiter(map(xxhash.xxh3_64_intdigest, np.ascontiguousarray(images)), np.uint64, len(images))
