"""Images of a pool, read by row; the images of other pools are not copied."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Index = int | np.integer[Any] | slice | npt.NDArray[np.integer[Any]]


class PoolImages(Protocol):
    """Images of a pool: an array on the disk, encoded images, or rows of other pools.

    ``images[row]`` is (C, H, W); ``images[start:stop]`` and ``images[rows]`` are (n, C, H, W). All are uint8 and read
    into memory at that moment. A row beyond the end is an IndexError.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


def rows_of(index: Index, count: int) -> npt.NDArray[np.int64]:
    """Return the rows that a slice or a list of rows names, among ``count``. Raises IndexError as numpy does."""
    if isinstance(index, slice):
        return np.arange(*index.indices(count), dtype=np.int64)
    rows = np.asarray(index)
    if not np.issubdtype(rows.dtype, np.integer) or rows.ndim != 1:
        raise IndexError(f"rows of a pool are named by integers, not by {rows.dtype} of shape {rows.shape}")
    rows = rows.astype(np.int64)
    if len(rows) and (rows.min() < -count or rows.max() >= count):
        raise IndexError(f"rows {rows.min()} to {rows.max()} are not all within the {count} of the pool")
    return np.where(rows < 0, rows + count, rows)


class ImagesByRow(ABC):
    """Images that are read by their rows. Subclasses set ``shape`` (N, C, H, W)."""

    dtype = np.dtype(np.uint8)
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> npt.NDArray[np.uint8]:
        if isinstance(index, (int, np.integer)):
            return self.take(rows_of(np.array([index]), len(self))).reshape(self.shape[1:])
        return self.take(rows_of(index, len(self)))

    @abstractmethod
    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Return the images in (n,) rows from 0 to N - 1."""


class JoinedImages(ImagesByRow):
    """The images of several pools, all of one shape, one pool after the other."""

    def __init__(self, parts: Sequence[PoolImages]) -> None:
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts])
        self.shape = (int(self._ends[-1]), *parts[0].shape[1:])

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        part_of = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(part_of):
            chosen = part_of == number
            first = self._ends[number] - len(self._parts[number])
            images[chosen] = self._parts[number][rows[chosen] - first]
        return images


class ChosenImages(ImagesByRow):
    """The images in (N,) rows of other images, in the order of the rows."""

    def __init__(self, images: PoolImages, rows: npt.NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows
        self.shape = (len(rows), *images.shape[1:])

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        images: npt.NDArray[np.uint8] = self._images[self._rows[rows]]
        return images
