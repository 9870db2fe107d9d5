"""The rows of a manifest, some at a time."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

GROUP_ROWS = 2**20  # rows of a Parquet row group, which can be read alone; what is in memory at once while writing


@dataclass(frozen=True)
class Rows:
    """Kept images, sorted by pool and index.

    Attributes:
        pool: (M,) int32, which of the pools.
        index: (M,) int64, row in the pool.
        label: (M,) int16.
        score: (M,) float32, or None where the strategy goes by none.
        epsilon: (M,) float32, signed radius.
    """

    pool: npt.NDArray[np.int32]
    index: npt.NDArray[np.int64]
    label: npt.NDArray[np.int16]
    score: npt.NDArray[np.float32] | None
    epsilon: npt.NDArray[np.float32]
