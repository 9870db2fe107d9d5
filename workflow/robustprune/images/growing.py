"""A NumPy file that grows row by row."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from robustprune.core.files import hasher

READ_AT_ONCE = 2**23  # bytes


class GrowingArray:
    """The file that ``np.save`` would write for an array of ``shape``; ``rows`` that an earlier attempt wrote stay.

    Its disk space is reserved first: a full disk shows before the work, and writing is several times faster.

    Raises:
        OSError: naming the file, if it cannot be written.
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
        self._file.seek(0)
        np.lib.format.read_magic(self._file)
        np.lib.format.read_array_header_1_0(self._file)
        start, row_bytes = self._file.tell(), self.dtype.itemsize * math.prod(shape[1:])
        size = start + shape[0] * row_bytes
        with self._named():
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, size)
            self._file.truncate(size)
        self._file.seek(0)
        while left := start + rows * row_bytes - self._file.tell():
            self._hasher.update(self._file.read(min(left, READ_AT_ONCE)))
        self._file.seek(self._file.tell())  # from reading to writing

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Add rows; their dtype is converted, their shape must fit."""
        content = np.ascontiguousarray(rows, self.dtype).data.cast("B")
        with self._named():
            self._file.write(content)
            self._file.flush()
        self._hasher.update(content)

    def sync(self) -> None:
        """Bring what was appended to the disk and drop it from the page cache.

        A file takes several times as long to write into fresh memory pages as into those of its last ones.
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

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Add the file's name to the error of a failed write, which has none."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
