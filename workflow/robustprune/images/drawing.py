"""Which rows of a pool a random subset has."""

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
    """Draw rows without replacement.

    Each row has a random key that depends on the seed and the row alone; the lowest keys are drawn. So of two draws
    with one seed the smaller is part of the larger, and what is excluded changes nothing in the order of the rest.

    Args:
        labels: (N,) of all rows.
        count: rows drawn.
        classes: number of classes.
        balanced: whether each class has as many; the first ``count`` modulo ``classes`` classes have one more.
        seed: of the draw.
        excluded: (N,) rows that cannot be drawn; none by default.
        origin: what the pool is called in a message.

    Returns:
        (``count``,) rows, ascending.

    Raises:
        UserError: when there are too few rows, in all or of a class.
    """
    allowed = np.ones(len(labels), np.bool_) if excluded is None else ~excluded
    if balanced:
        shares = [count // classes + (label < count % classes) for label in range(classes)]
        return draw_of_each(labels, shares, seed=seed, allowed=allowed, origin=origin)
    return np.sort(_lowest(row_keys(len(labels), seed), np.flatnonzero(allowed), count, what=origin))


def draw_of_each(
    labels: AnyLabels, shares: Sequence[int], *, seed: int, allowed: npt.NDArray[np.bool_] | None = None, origin: str
) -> Rows:
    """As ``draw_rows``, but so many of each class. Raises UserError where a class has fewer."""
    keys, drawn = row_keys(len(labels), seed), []
    for label, share in enumerate(shares):
        there = labels == label
        rows = np.flatnonzero(there if allowed is None else there & allowed)
        drawn.append(_lowest(keys, rows, share, what=f"class {label} of {origin}"))
    return np.sort(np.concatenate(drawn))


def row_keys(count: int, seed: int) -> npt.NDArray[np.uint64]:
    """(``count``,) random numbers; the i-th is that of Philox's counter, so it depends on the seed and i alone."""
    return np.random.Philox(key=derive_seed(seed, "subset")).random_raw(count)


def _lowest(keys: npt.NDArray[np.uint64], rows: Rows, count: int, *, what: str) -> Rows:
    if count > len(rows):
        raise UserError(f"{what} has {len(rows):,} images to draw from, but {count:,} are wanted; lower count")
    return rows[np.argsort(keys[rows], kind="stable")[:count]]
