"""npz with the arrays ``image`` and ``label``, as EDM's generated sets are published (Wang et al. 2023).

Arrays are read in blocks, stored or compressed, and are never in memory as a whole.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustprune.core.errors import UserError
from robustprune.core.npy import open_array, read_header
from robustprune.images.encoded import HARMLESS_BYTES, LARGEST_RATIO
from robustprune.images.formats.data_format import DataFormat, data_format
from robustprune.images.formats.finding import parts_of
from robustprune.images.formats.stream import Block, ImageStream, rows_at_once
from robustprune.images.pool import check_form
from robustprune.images.sources import FileSource, planned_files

if TYPE_CHECKING:
    from robustprune.core.stage import ImageShape
    from robustprune.images.ingested import IngestedPoolStage

DEFINITION = {"pools.ingest.npz": 2}


@dataclass(frozen=True)
class _Array:
    """The header of an array in an npz file."""

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def rows(self, file: IO[bytes], count: int) -> npt.NDArray[Any]:
        """Return the next rows of the opened member."""
        with _reading(self.path, self.key):
            content = file.read(count * self.dtype.itemsize * math.prod(self.shape[1:]))
            return np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])


@dataclass(frozen=True)
class _Part:
    path: Path
    image: _Array
    label: _Array

    @property
    def count(self) -> int:
        return self.label.shape[0]


@contextmanager
def _reading(path: Path, key: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: the array {key!r} cannot be read: {error}") from None


def _open_part(path: Path, shape: ImageShape) -> _Part:
    try:
        with zipfile.ZipFile(path) as archive:
            part = _Part(path, _read_header(path, archive, "image"), _read_header(path, archive, "label"))
            _check_ratio(path, archive.getinfo("image.npy"))
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is not an npz file, or is cut short: {error}") from None
    images, labels = part.image, part.label
    moved = _channels_first_shape(images.shape)
    if np.issubdtype(images.dtype, np.floating) and moved[1:] == shape and moved[0] > 0:
        _refuse_floats(images)
    check_form((moved, images.dtype), (labels.shape, labels.dtype), origin=str(path), expected=shape)
    return part


def _refuse_floats(array: _Array) -> None:
    """Raise UserError with the range of the first values, which shows how to convert them to uint8."""
    with zipfile.ZipFile(array.path) as archive, archive.open("image.npy") as file:
        _npy_header(file)
        first = array.rows(file, min(array.shape[0], 256))
    values = "hold NaN" if np.isnan(first).any() else f"go from {first.min():.4g} to {first.max():.4g}"
    raise UserError(f"{array.path}: images are {array.dtype} and {values}, but should be uint8 in 0 ... 255")


def _read_header(path: Path, archive: zipfile.ZipFile, key: str) -> _Array:
    names = {name.removesuffix(".npy"): name for name in archive.namelist()}
    if key not in names:
        raise UserError(f"{path} has no array {key!r}; it has {', '.join(names) or 'none'}")
    entry = archive.getinfo(names[key])
    if not entry.filename.endswith(".npy"):
        raise UserError(f"{path}: {key!r} is not an array")
    with _reading(path, key), open_array(archive, entry.filename) as file:
        shape, dtype, start = _npy_header(file)
    if entry.file_size != start + dtype.itemsize * math.prod(shape):
        sizes = " x ".join(str(size) for size in shape)
        stated = f"states {sizes} {dtype}, but its file has {entry.file_size:,} bytes"
        raise UserError(f"{path}: the array {key!r} cannot be read: it {stated}")
    return _Array(path, key, shape, dtype)


def _check_ratio(path: Path, entry: zipfile.ZipInfo) -> None:
    """Raise UserError if the images compress better than images can; equal labels compress without limit."""
    packed, unpacked = entry.compress_size, entry.file_size
    if unpacked > max(HARMLESS_BYTES, LARGEST_RATIO * packed):
        sizes = f"{packed:,} bytes to {unpacked:,}"
        raise UserError(
            f"{path}: the array 'image' cannot be read: it would unpack from {sizes}, which pictures do not"
        )


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape, dtype and offset of the data. Raises ValueError for pickles and Fortran order."""
    shape, fortran_order, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("Object arrays are pickles, which may run programs")
    if fortran_order and len(shape) > 1:
        raise ValueError("it is in Fortran's order; save numpy.ascontiguousarray(array)")
    return shape, dtype, file.tell()


def _blocks(part: _Part, first: int, length: int) -> Iterator[Block]:
    """Iterate from row ``first`` on. Earlier rows are read as well, since the checksum covers the whole array."""
    with (
        zipfile.ZipFile(part.path) as archive,
        archive.open("image.npy") as images,
        archive.open("label.npy") as labels,
    ):
        for file in (images, labels):
            _npy_header(file)
        for start in range(0, part.count, length):
            stop = min(start + length, part.count)
            pixels, numbers = part.image.rows(images, stop - start), part.label.rows(labels, stop - start)
            if stop > first:
                skipped = max(0, first - start)
                channels_first = pixels[skipped:, None] if pixels.ndim == 3 else pixels[skipped:].transpose(0, 3, 1, 2)
                yield np.ascontiguousarray(channels_first), numbers[skipped:]
        for array, file in ((part.image, images), (part.label, labels)):
            with _reading(part.path, array.key):
                file.read(1)  # zipfile verifies the checksum at the end


def _channels_first_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape with channels first; unchanged unless it has 3 or 4 dimensions (refused by ``check_form``)."""
    match shape:
        case count, height, width:
            return count, 1, height, width
        case count, height, width, channels:
            return count, channels, height, width
    return shape


@data_format(
    "npz",
    pictures=False,
    generated=True,
    hint="an npz holds the arrays 'image' (uint8, N x H x W x C) and 'label'; Wang et al.'s EDM sets are at "
    "https://huggingface.co/datasets/P2333/DM-Improves-AT",
)
class NpzFormat(DataFormat):
    """Images in npz files."""

    def files(self, folder: Path, split: str) -> list[Path]:
        """Return ``train.npz``, or parts such as ``train_part1.npz`` (Wang et al. 2023) or ``train-0.npz``."""
        whole = folder / f"{split}.npz"
        return [whole] if whole.is_file() else parts_of(folder, rf"{split}[-_]?(?:part)?(\d+)\.npz") or [whole]

    def count(self, files: list[Path]) -> int:
        """Return the number of images that the headers state."""
        from robustprune.core.npy import open_array, read_header  # imports numpy, which most plans do not need

        count = 0
        for file in files:
            with zipfile.ZipFile(file) as archive, open_array(archive, "label.npy") as member:
                count += read_header(member).shape[0]
        return count

    def open_stream(self, stage: IngestedPoolStage) -> ImageStream:
        """Return the concatenated images of the files of ``stage.source``, channels first.

        (N, H, W, C) becomes (N, C, H, W), and (N, H, W) becomes (N, 1, H, W).

        Raises:
            UserError: if a file is missing or incomplete, or an array is missing, pickled, or has a wrong shape or
            dtype.
        """
        assert isinstance(stage.source, FileSource)
        parts = [_open_part(path, stage.image_shape) for path in planned_files(stage.source)]

        def blocks(first: int) -> Iterator[Block]:
            for part in parts:
                yield from _blocks(part, first, rows_at_once(stage.image_shape))
                first = max(0, first - part.count)

        return ImageStream(sum(part.count for part in parts), blocks)
