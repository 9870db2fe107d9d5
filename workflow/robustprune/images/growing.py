"""A NumPy file that grows row by row."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from robustprune.core.files import hasher

if TYPE_CHECKING:
    pass


READ_AT_ONCE = 2**23  # bytes


class GrowingArray:
    """The file that ``np.save`` would write for all rows at once.

    Its place on the disk is taken at the beginning: a disk that is too small shows before the work, and writing costs
    a fraction of what it does where the file grows.

    Args:
        path: the file.
        shape: of the whole array, all rows.
        dtype: of its numbers.
        rows: rows that an earlier attempt has put there, and stay.

    Raises:
        OSError: naming the file, when it cannot be written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, *, rows: int) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        self._hasher = hasher()
        self._file = path.open("r+b" if rows else "w+b")
        try:
            self._begin(shape, rows)
        except BaseException:
            self._file.close()
            raise

    def _begin(self, shape: tuple[int, ...], rows: int) -> None:
        if rows == 0:
            header = {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._file.flush()
        start, row_bytes = header_bytes(self.path), self.dtype.itemsize * math.prod(shape[1:])
        with self._named():
            reserve(self._file.fileno(), start + shape[0] * row_bytes)
        for content in self._content(start + rows * row_bytes):
            self._hasher.update(content)

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Add rows; their dtype is converted, their shape must fit."""
        content = np.ascontiguousarray(rows, self.dtype).data.cast("B")
        with self._named():
            self._file.write(content)
            self._file.flush()
        self._hasher.update(content)

    def sync(self) -> None:
        """Bring what was appended to the disk, and give the system back the memory that it had for it.

        In fresh memory for each of its pages, a file takes several times as long to write as in that of its last ones.
        """
        os.fsync(self._file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    @property
    def digest(self) -> str:
        """BLAKE3 of the file so far, in hex."""
        return self._hasher.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _content(self, size: int) -> Iterator[bytes]:
        """The first ``size`` bytes; the position is behind them afterwards."""
        self._file.seek(0)
        while size and (content := self._file.read(min(size, READ_AT_ONCE))):
            size -= len(content)
            yield content
        self._file.seek(self._file.tell())  # from reading to writing

    @contextmanager
    def _named(self) -> Iterator[None]:
        """A failed write does not say where."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error


def reserve(descriptor: int, size: int) -> None:
    """Bring a file to a size whose place on the disk is taken, where the system can."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    os.truncate(descriptor, size)


def header_bytes(path: Path) -> int:
    """Return where the numbers of an npy file of version 1.0 begin. Raises ValueError when it is none."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return file.tell()


def holds_rows(path: Path, rows: int, row_bytes: int) -> bool:
    """Return True if the file at ``path`` is an npy file with room for at least so many rows."""
    try:
        return path.stat().st_size >= header_bytes(path) + rows * row_bytes
    except (OSError, ValueError):
        return False
