"""An ``.npy`` file that grows row by row, its SHA-256 computed on the way."""

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

READ_AT_ONCE = 2**23  # bytes


class GrowingArray:
    """The file that ``np.save`` would write for all rows at once.

    Args:
        path: the file; what an earlier attempt left after row ``rows`` is cut off.
        shape: of the whole array, all rows.
        dtype: of its numbers.
        rows: rows that are in the file already, and stay.

    Raises:
        OSError: naming the file, when it cannot be written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, *, rows: int) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        self._row_bytes = self.dtype.itemsize * math.prod(shape[1:])
        self._file = path.open("r+b" if rows else "w+b")
        if rows == 0:
            header = {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._file.flush()
        self._header_bytes = header_bytes(path)
        self._file.truncate(self._header_bytes + rows * self._row_bytes)
        self._sha = hashlib.sha256()
        for content in self._content():
            self._sha.update(content)

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Add rows; their dtype is converted, their shape must fit."""
        content = np.ascontiguousarray(rows, self.dtype).data.cast("B")
        try:
            self._file.write(content)
            self._file.flush()
        except OSError as error:  # a failed write does not say where
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._sha.update(content)

    def sync(self) -> None:
        """Bring what was appended to the disk."""
        os.fsync(self._file.fileno())

    @property
    def digest(self) -> str:
        """SHA-256 of the file so far, in hex."""
        return self._sha.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _content(self) -> Iterator[bytes]:
        """All of the file; the position is at its end afterwards."""
        self._file.seek(0)
        while content := self._file.read(READ_AT_ONCE):
            yield content


def header_bytes(path: Path) -> int:
    """Where the numbers of an npy file of version 1.0 begin. Raises ValueError when it is none."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return file.tell()


def holds_rows(path: Path, rows: int, row_bytes: int) -> bool:
    """Whether the file at ``path`` is an npy file with at least so many rows in it."""
    try:
        return path.stat().st_size >= header_bytes(path) + rows * row_bytes
    except (OSError, ValueError):
        return False
