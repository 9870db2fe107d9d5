"""Images of other pools, by row: nothing is copied, and a row is read where it lies."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from robustprune.pools.images import Index, PoolImages, rows_of


class JoinedImages:
    """The images of several pools, one pool after the other.

    Args:
        parts: the images of each; all of one shape.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, parts: Sequence[PoolImages]) -> None:
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts])
        self.shape = (int(self._ends[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> npt.NDArray[np.uint8]:
        if isinstance(index, (int, np.integer)):
            return self[np.array([index])].reshape(self.shape[1:])
        rows = rows_of(index, len(self))
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        part_of = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(part_of):
            chosen = part_of == number
            first = self._ends[number] - len(self._parts[number])
            images[chosen] = self._parts[number][rows[chosen] - first]
        return images


class ChosenImages:
    """Some rows of other images.

    Args:
        images: the others.
        rows: (N,) which of their rows these are, in this order.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, images: PoolImages, rows: npt.NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows
        self.shape = (len(rows), *images.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> npt.NDArray[np.uint8]:
        if isinstance(index, (int, np.integer)):
            return self[np.array([index])].reshape(self.shape[1:])
        images: npt.NDArray[np.uint8] = self._images[self._rows[rows_of(index, len(self))]]
        return images
