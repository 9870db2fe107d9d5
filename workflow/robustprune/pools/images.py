"""What the images of any pool can do, wherever they lie: give rows of themselves."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Index = int | np.integer[Any] | slice | npt.NDArray[np.integer[Any]]


class PoolImages(Protocol):
    """Images of a pool: an array on the disk, encoded images, or rows of other pools.

    ``images[row]`` is (C, H, W), ``images[start:stop]`` and ``images[rows]`` are (n, C, H, W), all uint8, read into
    memory at that moment. A row beyond the end is an IndexError.
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
    """The rows that an index of one dimension names, among ``count``. Raises IndexError as numpy does."""
    if isinstance(index, slice):
        return np.arange(*index.indices(count), dtype=np.int64)
    rows = np.asarray(index)
    if not np.issubdtype(rows.dtype, np.integer) or rows.ndim != 1:
        raise IndexError(f"rows of a pool are named by integers, not by {rows.dtype} of shape {rows.shape}")
    rows = rows.astype(np.int64)
    if len(rows) and (rows.min() < -count or rows.max() >= count):
        raise IndexError(f"rows {rows.min()} to {rows.max()} are not all within the {count} of the pool")
    return np.where(rows < 0, rows + count, rows)
