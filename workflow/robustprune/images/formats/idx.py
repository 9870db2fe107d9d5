"""The idx format of MNIST (LeCun et al. 1998): a header of big-endian integers, then the bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from robustprune.core.errors import UserError
from robustprune.images.formats.data_format import DataFormat, data_format
from robustprune.images.formats.finding import idx_files
from robustprune.images.formats.stream import Block, ImageStream, rows_at_once
from robustprune.images.sources import FileSource, planned_files

if TYPE_CHECKING:
    from robustprune.core.stage import ImageShape
    from robustprune.images.ingested import IngestedPoolStage
    from robustprune.images.pool import AnyLabels, Images

DEFINITION = {"pools.ingest.idx": 1}
LARGEST_DEFLATE = 1032  # bytes that one byte can unpack to


def stream_files(images: Path, labels: Path, shape: ImageShape) -> ImageStream:
    """Return a stream with blocks of (n, 1, H, W) uint8 images and (n,) uint8 labels.

    Raises:
        UserError: if a file is incomplete, or the images do not have the shape (1, H, W) of ``shape``.
    """
    (count, *sides), (label_count,) = _read_shape(images, 3), _read_shape(labels, 1)
    if count != label_count:
        raise UserError(f"{images} has {count} images, but {labels} has {label_count} labels")
    if (1, *sides) != shape:
        raise UserError(f"{images}: images have shape {(1, *sides)}, but data.image_shape is {shape}")
    _require_room(images, (count, *sides))
    _require_room(labels, (label_count,))
    length = rows_at_once(shape)

    def blocks(first: int) -> Iterator[Block]:
        for pixels, numbers in zip(_rows(images, 3, first, length), _rows(labels, 1, first, length), strict=True):
            yield pixels[:, None], numbers

    return ImageStream(count, blocks)


def read_images(path: Path) -> Images:
    """Return all images of a file, (N, 1, H, W) uint8."""
    return np.concatenate(list(_rows(path, 3, 0, 2**14)))[:, None]


def read_labels(path: Path) -> AnyLabels:
    """Return all labels of a file, (N,) uint8."""
    return np.concatenate(list(_rows(path, 1, 0, 2**20)))


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _read(file: IO[bytes], size: int, path: Path) -> bytes:
    try:
        return file.read(size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is not a whole gzip file: {error}") from None


def _read_shape(path: Path, dimensions: int) -> tuple[int, ...]:
    with _open(path) as file:
        return _shape(file, path, dimensions)


def _shape(file: IO[bytes], path: Path, dimensions: int) -> tuple[int, ...]:
    start = bytes([0, 0, 0x08, dimensions])  # 0x08: unsigned bytes
    size = 4 + 4 * dimensions
    header = _read(file, size, path)
    if not header.startswith(start) or len(header) < size:
        raise UserError(
            f"{path} is not an idx file of unsigned bytes in {dimensions} dimension(s): it starts with "
            f"{header[:4].hex() or 'nothing'} and should start with {start.hex()} and {size - 4} bytes of sizes"
        )
    return tuple(np.frombuffer(header, ">u4", dimensions, offset=4).tolist())


def _require_room(path: Path, shape: tuple[int, ...]) -> None:
    """Raise UserError if the file is too small for its header, which could reserve any amount of disk."""
    size, expected = path.stat().st_size, _expected_size(shape)
    if path.suffix != ".gz" and size < expected:
        _refuse_size(path, shape, str(size))
    if size * LARGEST_DEFLATE < expected:
        _refuse_size(path, shape, f"less, packed into {size}")


def _rows(path: Path, dimensions: int, first: int, length: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Iterate from row ``first`` on. Earlier rows are read as well, since gzip's checksum covers the whole file."""
    with _open(path) as file:
        shape = _shape(file, path, dimensions)
        count, item = shape[0], math.prod(shape[1:])
        for start in range(0, count, length):
            stop = min(start + length, count)
            content = _read(file, (stop - start) * item, path)
            if len(content) < (stop - start) * item:
                _refuse_size(path, shape, str(_expected_size((start, *shape[1:])) + len(content)))
            if stop > first:
                yield np.frombuffer(content, np.uint8).reshape(-1, *shape[1:])[max(0, first - start) :]
        if _read(file, 1, path):
            _refuse_size(path, shape, "more")


def _expected_size(shape: tuple[int, ...]) -> int:
    return 4 + 4 * len(shape) + math.prod(shape)


def _refuse_size(path: Path, shape: tuple[int, ...], actual: str) -> None:
    sizes = " x ".join(str(size) for size in shape)
    raise UserError(f"{path} states {sizes}, so {_expected_size(shape)} bytes with its header, but holds {actual}")


@data_format(
    "idx",
    pictures=False,
    generated=False,
    hint="the four idx files of MNIST, plain or .gz, are at https://ossci-datasets.s3.amazonaws.com/mnist/",
)
class IdxFormat(DataFormat):
    """Images in idx files."""

    def files(self, folder: Path, split: str) -> list[Path]:
        """Return the files of images and labels, unpacked or ``.gz``."""
        return list(idx_files(folder, split))

    def count(self, files: list[Path]) -> int:
        """Return the number of images that the headers state."""
        with gzip.open(files[0]) if files[0].suffix == ".gz" else files[0].open("rb") as file:
            return int(struct.unpack(">ii", file.read(8))[1])  # magic number, number of images

    def open_stream(self, stage: IngestedPoolStage) -> ImageStream:
        """Return the images and labels of the two files of ``stage.source``, plain or ``.gz``.

        Raises:
            UserError: if a file is missing or incomplete.
        """
        assert isinstance(stage.source, FileSource)
        images, labels = planned_files(stage.source)
        return stream_files(images, labels, stage.image_shape)
