"""Random draws of a pool's rows."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from robustprune.core.errors import UserError
from robustprune.core.randomness import derive_seed
from robustprune.images.pool import AnyLabels

DEFINITION = {"pools.drawing": 1}

Rows = npt.NDArray[np.int64]


def draw_rows(
    labels: AnyLabels,
    count: int,
    *,
    classes: int,
    balanced: bool,
    seed: int,
    excluded: npt.NDArray[np.bool_] | None = None,
    origin: str = "the pool",
) -> Rows:
    """Draw ``count`` rows without replacement, in ascending order.

    Each row has a random key that depends only on the seed and the row; the rows with the lowest keys are drawn. With
    one seed, a smaller draw is therefore part of a larger one, and excluded rows do not change the order of the others.
    A balanced draw has equally many rows of each class; the first ``count`` modulo ``classes`` classes have one more.

    Raises:
        UserError: if there are too few rows, in all or of a class.
    """
    if balanced:
        shares = [count // classes + (label < count % classes) for label in range(classes)]
        return draw_of_each(labels, shares, seed=seed, excluded=excluded, origin=origin)
    rows = np.arange(len(labels)) if excluded is None else np.flatnonzero(~excluded)
    return np.sort(_lowest(row_keys(len(labels), seed), rows, count, what=origin))


def draw_of_each(
    labels: AnyLabels, shares: Sequence[int], *, seed: int, excluded: npt.NDArray[np.bool_] | None = None, origin: str
) -> Rows:
    """Like ``draw_rows``, with the number of rows of each class."""
    keys, drawn = row_keys(len(labels), seed), []
    for label, share in enumerate(shares):
        of_class = labels == label
        rows = np.flatnonzero(of_class if excluded is None else of_class & ~excluded)
        drawn.append(_lowest(keys, rows, share, what=f"class {label} of {origin}"))
    return np.sort(np.concatenate(drawn))


def row_keys(count: int, seed: int) -> npt.NDArray[np.uint64]:
    """Return (``count``,) random numbers; as Philox is a counter, the i-th depends only on the seed and i."""
    return np.random.Philox(key=derive_seed(seed, "subset")).random_raw(count)


def _lowest(keys: npt.NDArray[np.uint64], rows: Rows, count: int, *, what: str) -> Rows:
    if count > len(rows):
        raise UserError(f"{what} has {len(rows):,} images to draw from, but {count:,} are wanted; lower count")
    return rows[np.argsort(keys[rows], kind="stable")[:count]]
