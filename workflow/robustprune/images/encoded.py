"""Encoded images in Parquet files with the columns of Hugging Face, decoded when a row is asked for.

The folder ``images.parquet`` is one table of ``image`` (a struct of ``bytes`` and ``path``) and ``label``. Parquet has
no access to single rows, but the bytes are not compressed: ``index.npy`` holds the place of each image in the files.
"""

import io
import os
import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from robustprune.core.errors import UserError
from robustprune.core.stage import ImageShape
from robustprune.images.images_by_row import ImagesByRow, Index

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow knows others that run programs to read a file
MODES = {1: "L", 3: "RGB"}
LARGEST_BYTES = 2**26  # of an encoded image
LARGEST_RATIO = 200  # of unpacked to packed size: pictures are far below, a zip bomb is at deflate's limit of 1,032
HARMLESS_BYTES = 2**24  # unpacked, whatever the ratio
LARGEST_PIXELS = 2**26  # 8192 x 8192; a file of a few kilobytes can state far more
FAILURES = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode(encoded: bytes, where: str, shape: ImageShape, *, fit: bool = False) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image file as (C, H, W) uint8, converted to grey or RGB.

    Args:
        encoded: the content of the file.
        where: name of the image in messages, e.g. ``train.parquet: the image in row 3``.
        shape: channels, height, width.
        fit: crop the middle of an image of another size to the wanted proportions and scale it (bilinear with
            antialiasing; a JPEG of at least 4, 8 or 16 times the size is decoded at 1/2, 1/4 or 1/8 of its size).

    Raises:
        UserError: if it is damaged or cut short, has more than 8 bits a channel, or is too large; without ``fit``, if
            it has another size.
    """
    channels, height, width = shape
    if len(encoded) > LARGEST_BYTES:
        raise UserError(f"{where} is {len(encoded):,} bytes; more than {LARGEST_BYTES:,} are not taken")
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            _check(image, where, (width, height), fit=fit)
            if fit:
                image.draft(None, (2 * width, 2 * height))
            opaque = image.convert("RGBA") if image.mode == "P" else image  # the palette may have transparent colours
            picture = ImageOps.fit(opaque.convert(MODES[channels]), (width, height), Image.Resampling.BILINEAR)
    except FAILURES as error:
        raise UserError(f"{where} cannot be decoded: {error}") from None
    return np.asarray(picture).reshape(height, width, channels).transpose(2, 0, 1)


decode_and_fit = partial(decode, fit=True)


def _check(image: ImageFile, where: str, size: tuple[int, int], *, fit: bool) -> None:
    stated = f"{image.width} x {image.height}"
    if not fit and image.size != size:
        raise UserError(f"{where} is {stated} pixels, but data.image_shape asks for {size[0]} x {size[1]}")
    if image.width * image.height > LARGEST_PIXELS:
        raise UserError(f"{where} states {stated} pixels; more than {LARGEST_PIXELS:,} are not decoded")
    if _is_deep(image):
        raise UserError(f"{where} has more than 8 bits a channel, which uint8 cannot hold")


def _is_deep(image: ImageFile) -> bool:
    """Return True for colours of more than 8 bits a channel, of which Pillow drops the lower ones."""
    if isinstance(image, TiffImageFile) and max(image.tag_v2.get(BITSPERSAMPLE, (1,))) > 8:
        return True  # by the tag, as the mode of planar channels does not state it
    raw_modes = str([tile.args for tile in image.tile])  # such as RGB;16B; BMP's BGR;16 is 5, 6 and 5 bits
    return image.mode.startswith(("I", "F")) or re.search(r";16[BLN]\b", raw_modes) is not None


PARQUET_FOLDER, INDEX_FILE = "images.parquet", "index.npy"
PLACE = np.dtype([("file", "<u4"), ("length", "<u4"), ("offset", "<u8")])  # of an encoded image
PREFIX = 4  # bytes before a value's first, which are its length: Parquet's PLAIN encoding of byte arrays

MOST_THREADS = 16
ROWS_OF_A_TASK = 8
MAPPED_FILES = 64  # at once; each holds a file descriptor, and a process may often have no more than 1,024
READ_AHEAD_BYTES = 2**29  # decoded; no longer block is read before it is asked for


def file_name(number: int) -> str:
    """Return the name of one of the Parquet files."""
    return f"{number:05}.parquet"


def _map_file(folder: Path, number: int) -> npt.NDArray[np.uint8]:
    path = folder / file_name(number)
    try:
        return np.memmap(path, np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def decoding_threads() -> int:
    """Return how many threads decode: one per core, as Pillow releases the interpreter's lock."""
    return min(MOST_THREADS, len(os.sched_getaffinity(0)))


class EncodedImages(ImagesByRow):
    """The encoded images of a pool; ``images[...]`` decodes them in several threads and brings them to ``shape``.

    After a slice, the next slice of the same length is decoded while the caller works on this one.

    Raises:
        OSError, ValueError: if ``directory`` has no readable index.
    """

    def __init__(self, directory: Path, shape: ImageShape) -> None:
        self._folder = directory / PARQUET_FOLDER
        self._places = np.lib.format.open_memmap(directory / INDEX_FILE, mode="r")
        if self._places.dtype != PLACE or self._places.ndim != 1:
            raise ValueError(f"{INDEX_FILE} is {self._places.dtype} {self._places.shape}, not a list of {PLACE}")
        self._image_shape, self.shape = shape, (len(self._places), *shape)
        self._file = lru_cache(MAPPED_FILES)(partial(_map_file, self._folder))
        self._decoders = ThreadPoolExecutor(decoding_threads(), thread_name_prefix="decode")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._ahead: tuple[range, Future[npt.NDArray[np.uint8]]] | None = None

    def __getitem__(self, index: Index) -> npt.NDArray[np.uint8]:
        if isinstance(index, slice):
            return self._read_on(range(*index.indices(len(self))))
        return super().__getitem__(index)

    def encoded(self, row: int) -> bytes:
        """Return the bytes of an image as its source had them. Raises UserError if the files are damaged."""
        number, length, start = self._places[row].item()
        file = self._file(number)
        stated = int.from_bytes(file[start - PREFIX : start].tobytes(), "little")
        if stated != length or start + length > len(file):
            raise UserError(
                f"{self._name(row)} is not where {INDEX_FILE} says; the file is damaged, make the pool anew"
            )
        return file[start : start + length].tobytes()

    def _name(self, row: int) -> str:
        return f"{self._folder / file_name(int(self._places[row]['file']))}: the image in row {row} of the pool"

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        images = np.empty((len(rows), *self._image_shape), np.uint8)

        def decode_some(start: int) -> None:
            for place in range(start, min(start + ROWS_OF_A_TASK, len(rows))):
                row = int(rows[place])
                images[place] = decode_and_fit(self.encoded(row), self._name(row), self._image_shape)

        list(self._decoders.map(decode_some, range(0, len(rows), ROWS_OF_A_TASK)))
        return images

    def _read_on(self, wanted: range) -> npt.NDArray[np.uint8]:
        """Return a slice, which may be decoded already, and begin to decode the next one."""
        ahead, self._ahead = self._ahead, None
        images = ahead[1].result() if ahead is not None and ahead[0] == wanted else self.take(wanted)
        following = range(wanted.stop, min(2 * wanted.stop - wanted.start, len(self)))
        if wanted.step == 1 and following and images.nbytes <= READ_AHEAD_BYTES:
            self._ahead = (following, self._reader.submit(self.take, following))
        return images
