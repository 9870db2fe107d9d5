"""Encoded images: JPEGs and the like in Parquet files as Hugging Face lays them out, decoded when a row is asked for.

``images.parquet`` is a folder of Parquet files, which any reader of Parquet takes for one table: ``image`` (a struct of
``bytes`` and ``path``) and ``label``. Parquet knows no way to a single row. But the bytes are stored without
compression, so ``index.npy`` can say where in which file those of each row are, and one read fetches an image.
"""

import io
import os
import re
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from robustprune.core.errors import UserError
from robustprune.core.stage import ImageShape
from robustprune.images.limits import LARGEST_BYTES
from robustprune.images.rows import Index, rows_of

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow knows others that run programs to read a file
MODES = {1: "L", 3: "RGB"}
LARGEST_PIXELS = 2**26  # 8192 x 8192; a file of a few kilobytes can state far more
FAILURES = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode(encoded: bytes, where: str, shape: ImageShape) -> npt.NDArray[np.uint8]:
    """The pixels of an image that has the wanted size.

    Args:
        encoded: the content of an image file.
        where: what the image is called in a message, e.g. ``train.parquet: the image in row 3``.
        shape: channels, height, width.

    Returns:
        (C, H, W) uint8, converted to grey or RGB.

    Raises:
        UserError: when it is damaged or cut short, has another size or more than 8 bits a channel, or is too large.
    """
    return _decode(encoded, where, shape, fit=False)


def decode_and_fit(encoded: bytes, where: str, shape: ImageShape) -> npt.NDArray[np.uint8]:
    """As ``decode``, of an image of any size up to 2^26 pixels.

    The middle of it with the wanted proportions is scaled (bilinear with antialiasing; a JPEG of at least 4, 8 or 16
    times as many pixels a side is decoded at 1/2, 1/4 or 1/8 of its size). An image of the wanted size stays as it is.
    """
    return _decode(encoded, where, shape, fit=True)


def _decode(encoded: bytes, where: str, shape: ImageShape, *, fit: bool) -> npt.NDArray[np.uint8]:
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


def _check(image: ImageFile, where: str, size: tuple[int, int], *, fit: bool) -> None:
    found = f"{image.width} x {image.height}"
    if not fit and image.size != size:
        raise UserError(f"{where} is {found} pixels, but data.image_shape asks for {size[0]} x {size[1]}")
    if image.width * image.height > LARGEST_PIXELS:
        raise UserError(f"{where} states {found} pixels; more than {LARGEST_PIXELS:,} are not decoded")
    if _is_deep(image):
        raise UserError(f"{where} has more than 8 bits a channel, which uint8 cannot hold")


def _is_deep(image: ImageFile) -> bool:
    """Return True for colours of more than 8 bits a channel, of which Pillow drops the lower ones."""
    if isinstance(image, TiffImageFile) and max(image.tag_v2.get(BITSPERSAMPLE, (1,))) > 8:
        return True  # by the tag, as channels that lie apart are named without their depth
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
    """The name of one of the Parquet files."""
    return f"{number:05}.parquet"


def map_file(folder: Path, number: int) -> npt.NDArray[np.uint8]:
    """The bytes of one of the Parquet files, memory-mapped. Raises UserError where there is none."""
    path = folder / file_name(number)
    try:
        return np.memmap(path, np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def decoding_threads() -> int:
    """Return how many threads decode: one per core, as Pillow lets go of the interpreter's lock."""
    return min(MOST_THREADS, len(os.sched_getaffinity(0)))


class EncodedImages:
    """The encoded images of a pool; ``images[...]`` decodes, in several threads.

    After a slice, the next slice of the same length is decoded while the caller works on this one.

    Args:
        directory: the pool's.
        shape: channels, height, width, to which images of another size are brought.

    Raises:
        OSError, ValueError: when there is no readable index.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, directory: Path, shape: ImageShape) -> None:
        self._folder = directory / PARQUET_FOLDER
        self._places = np.lib.format.open_memmap(directory / INDEX_FILE, mode="r")
        if self._places.dtype != PLACE or self._places.ndim != 1:
            raise ValueError(f"{INDEX_FILE} is {self._places.dtype} {self._places.shape}, not a list of {PLACE}")
        self._image_shape = shape
        self._file = lru_cache(MAPPED_FILES)(partial(map_file, self._folder))
        self._ahead: tuple[range, Future[npt.NDArray[np.uint8]]] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return (len(self._places), *self._image_shape)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Index) -> npt.NDArray[np.uint8]:
        if isinstance(index, slice):
            return self._read_on(range(*index.indices(len(self))))
        if isinstance(index, (int, np.integer)):
            return self._decode(int(rows_of(np.array([index]), len(self))[0]))
        return self._decode_all(rows_of(index, len(self)))

    def encoded(self, row: int) -> bytes:
        """The bytes of an image, as they were brought in. Raises UserError where the files are damaged."""
        place = self._places[row]
        start, length = int(place["offset"]), int(place["length"])
        file = self._file(int(place["file"]))
        stated = int.from_bytes(file[start - PREFIX : start].tobytes(), "little")
        if stated != length or start + length > len(file):
            raise UserError(
                f"{self._name(row)} is not where {INDEX_FILE} says; the file is damaged, make the pool anew"
            )
        return file[start : start + length].tobytes()

    def _name(self, row: int) -> str:
        return f"{self._folder / file_name(int(self._places[row]['file']))}: the image in row {row} of the pool"

    def _decode(self, row: int) -> npt.NDArray[np.uint8]:
        return decode_and_fit(self.encoded(row), self._name(row), self._image_shape)

    def _decode_all(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        images = np.empty((len(rows), *self._image_shape), np.uint8)

        def decode_some(start: int) -> None:
            for place in range(start, min(start + ROWS_OF_A_TASK, len(rows))):
                images[place] = self._decode(int(rows[place]))

        for _ in self._decoders.map(decode_some, range(0, len(rows), ROWS_OF_A_TASK)):
            pass
        return images

    def _read_on(self, wanted: range) -> npt.NDArray[np.uint8]:
        """The slice, perhaps decoded already, and begin with the next one."""
        ahead, self._ahead = self._ahead, None
        images = ahead[1].result() if ahead is not None and ahead[0] == wanted else self._decode_range(wanted)
        following = range(wanted.stop, min(2 * wanted.stop - wanted.start, len(self)))
        if wanted.step == 1 and following and images.nbytes <= READ_AHEAD_BYTES:
            self._ahead = (following, self._reader.submit(self._decode_range, following))
        return images

    def _decode_range(self, wanted: range) -> npt.NDArray[np.uint8]:
        return self._decode_all(np.arange(wanted.start, wanted.stop, wanted.step, dtype=np.int64))

    @cached_property
    def _decoders(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(decoding_threads(), thread_name_prefix="decode")

    @cached_property
    def _reader(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
