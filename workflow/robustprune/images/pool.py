"""The pool: images, labels and pool.json, which describes them. A sample's id is its row in its pool.

The images are a memory-mapped array, encoded images (``encoded``), or rows of other pools (``images_by_row``); all are
read in the same way. Pools are written by ``writing``, ``encoding`` and ``subpools``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypedDict

import numpy as np
import numpy.typing as npt
import xxhash

from robustprune.core.errors import UserError
from robustprune.core.files import digest, hash_lines, write_text
from robustprune.core.paths import POOL_FILE
from robustprune.core.settings import Exact, Settings
from robustprune.core.stage import ImageShape, Stage
from robustprune.images.encoded import EncodedImages
from robustprune.images.images_by_row import ChosenImages, JoinedImages, PoolImages

IMAGES_FILE, LABELS_FILE, INFO_FILE = "images.npy", "labels.npy", POOL_FILE
DIGESTS_FILE = "image_digests.npy"  # what duplicates are found by
ROWS_FILE = "rows.npy"  # int64, of a subset: its rows of the other pools
LABELS_AT_ONCE = 2**21

Images = npt.NDArray[np.uint8]  # (N, C, H, W)
Labels = npt.NDArray[np.int16]  # (N,)
AnyLabels = npt.NDArray[np.integer[Any]]  # (N,), as a source has them
Digests = npt.NDArray[np.uint64]  # (N,)
Stages = Mapping[str, Stage]
ArrayForm = tuple[tuple[int, ...], np.dtype[Any]]  # shape and dtype of an array


class PoolForm(TypedDict):
    """What a pool is filled with; ``image_shape`` is channels, height, width."""

    dataset: str
    classes: int
    image_shape: ImageShape


class PoolStage(Stage):
    """A pool of labelled images; its subclasses say where these come from."""

    sentence: ClassVar = "images with their labels: real ones brought in, generated ones drawn, or parts of other pools"
    kind: Literal["pools"] = "pools"
    dataset: str
    classes: int
    image_shape: ImageShape

    @property
    def form(self) -> PoolForm:
        """The settings that its pool.json repeats."""
        return {"dataset": self.dataset, "classes": self.classes, "image_shape": self.image_shape}

    @property
    def members(self) -> tuple[str, ...]:
        """Pools whose images together are this pool; empty if it is not made of others."""
        return ()

    @property
    def parent(self) -> str | None:
        """The pool of which it is a part; None if there is none."""
        return None

    def planned_count(self, stages: Stages) -> int | None:
        """Return the number of images; None if it is unknown before the pool is made."""
        return None

    def planned_class_counts(self) -> tuple[int, ...] | None:
        """Return the number of images of each class; None if it is unknown before the pool is made."""
        return None


class Member(Settings):
    """A pool whose images are also those of another pool."""

    pool: str  # the stage's id and the name of its directory, which is in the same folder
    digest: str
    count: int
    share: Exact | None = None  # of the generated images of a batch; None: in proportion to the counts


class PoolInfo(Settings):
    """Content of pool.json."""

    dataset: str
    source: str
    classes: int
    image_shape: ImageShape
    count: int
    class_counts: tuple[int, ...]
    digest: str  # of images.npy and labels.npy; of a view, of its members' digests and of its rows
    storage: Literal["array", "encoded", "view"] = "array"
    members: tuple[Member, ...] = ()  # of a view: the pools whose images it has, in order
    selected: tuple[str, ...] = ()  # how these images were chosen by quality; empty if they were not


@dataclass(frozen=True)
class Pool:
    """An open pool."""

    images: PoolImages  # (N, C, H, W) uint8, read when a row is asked for
    labels: Labels  # (N,) in 0 ... classes - 1, memory-mapped
    info: PoolInfo

    def __len__(self) -> int:
        return len(self.labels)


def open_pool(directory: Path) -> Pool:
    """Open the pool in a stage's directory; only pool.json and array headers are read.

    Raises:
        UserError: if a file is missing, malformed, or not of the shape in pool.json; or if a member of the pool is gone
            or was made anew.
    """
    try:
        info = read_info(directory / INFO_FILE)
        images = _open_images(directory, info)
        labels = _map(directory / LABELS_FILE)
    except (OSError, ValueError) as error:  # pydantic's ValidationError is a ValueError
        raise UserError(f"{directory} is not a readable pool: {' '.join(str(error).split())}") from None
    for name, array, dtype, shape in (
        (IMAGES_FILE, images, np.dtype(np.uint8), (info.count, *info.image_shape)),
        (LABELS_FILE, labels, np.dtype(np.int16), (info.count,)),
    ):
        if array.shape != shape or array.dtype != dtype:
            raise UserError(f"{directory / name} is {array.dtype} {array.shape}, pool.json states {dtype} {shape}")
    return Pool(images, labels, info)


def _map(path: Path) -> npt.NDArray[Any]:
    return np.lib.format.open_memmap(path, mode="r").view(np.ndarray)


def _open_images(directory: Path, info: PoolInfo) -> PoolImages:
    if info.storage == "array":
        return np.lib.format.open_memmap(directory / IMAGES_FILE, mode="r")
    if info.storage == "encoded":
        return EncodedImages(directory, info.image_shape)
    joined = JoinedImages([_open_member(directory, member) for member in info.members])
    if not (directory / ROWS_FILE).exists():
        return joined
    rows = _map(directory / ROWS_FILE)
    if rows.dtype != np.int64 or rows.ndim != 1:
        raise ValueError(f"{ROWS_FILE} is {rows.dtype} {rows.shape}, not a list of int64")
    return ChosenImages(joined, rows)


def _open_member(directory: Path, member: Member) -> PoolImages:
    path = directory.parent / member.pool
    if not (path / INFO_FILE).is_file():
        raise UserError(
            f"{directory} has images of the pool {member.pool}, which is not there any more; make it again with "
            f"'robustprune run {path}'"
        )
    pool = open_pool(path)
    if pool.info.digest != member.digest:
        raise UserError(
            f"{directory} has images of the pool {member.pool} as it was with the digest {member.digest[:16]}, but it "
            f"is another one now ({pool.info.digest[:16]}); delete {directory} to make it anew"
        )
    return pool.images


def read_info(path: Path) -> PoolInfo:
    """Read a pool.json. Raises OSError or ValueError if it is not readable."""
    return PoolInfo.model_validate_json(path.read_text())


def read_digests(directory: Path) -> Digests:
    """Return the digest of each image of a pool, (N,) uint64, memory-mapped. Raises UserError if not readable."""
    try:
        return _map(directory / DIGESTS_FILE)
    except (OSError, ValueError) as error:
        raise UserError(f"{directory / DIGESTS_FILE} cannot be read: {error}") from None


def write_info(directory: Path, labels: AnyLabels, *, classes: int, **fields: Any) -> PoolInfo:
    """Write pool.json, with the counts of (N,) ``labels``, which may be memory-mapped, and the other ``fields``."""
    counts = np.zeros(classes, np.int64)
    for start in range(0, len(labels), LABELS_AT_ONCE):
        counts += np.bincount(labels[start : start + LABELS_AT_ONCE], minlength=classes)
    info = PoolInfo(classes=classes, count=len(labels), class_counts=tuple(counts.tolist()), **fields)
    write_text(directory / INFO_FILE, info.model_dump_json(indent=2) + "\n")
    return info


def check_images(
    images: npt.NDArray[Any], labels: npt.NDArray[Any], *, origin: str, classes: int, image_shape: ImageShape
) -> None:
    """Raise UserError, with ``origin`` and the value, if arrays cannot be a pool."""
    check_form((images.shape, images.dtype), (labels.shape, labels.dtype), origin=origin, expected=image_shape)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise UserError(f"{origin}: labels go from {low} to {high}, but data.classes allows 0 to {classes - 1}")


def check_form(images: ArrayForm, labels: ArrayForm, *, origin: str, expected: ImageShape) -> None:
    """Raise UserError if arrays of such shapes and dtypes cannot be a pool."""
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
    """Return the digest of a pool of storage ``array``, by reading its files."""
    return hash_lines(digest(directory / name) for name in (IMAGES_FILE, LABELS_FILE))


def image_digests(images: Images) -> Digests:
    """Return the XXH3 of each image's pixels, (N,) uint64, in the order of (C, H, W).

    Equal images have equal digests. Of N different images two have the same digest with a probability of N^2 / 2^65: 1
    in 10^4 for fifty million images. SHA-256 takes ten times as long, and nobody gains from making images that collide.
    """
    return np.fromiter(map(xxhash.xxh3_64_intdigest, np.ascontiguousarray(images)), np.uint64, len(images))
