"""Which images of a pool are shown: some of each bin, and those at the ends of the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustprune.images.drawing import Rows, row_keys

if TYPE_CHECKING:
    from robustprune.report.gallery.counting import Numbers, Scores

DEFINITION = {"gallery.picks": 1}

OF_A_BIN = 24  # images of a pool
OF_AN_END = 160  # images of a pool
SEED = 0

Labels = npt.NDArray[np.integer[Any]]


def first_of_each_class(rows: Rows, labels: Labels, keys: npt.NDArray[Any], most: int) -> Rows:
    """Return each class's row of the lowest key, then each one's second, and so on, until there are ``most``.

    Args:
        rows: (n,) rows.
        labels: (n,) their classes.
        keys: (n,) what decides within a class.
        most: how many are wanted.

    Returns:
        at most ``most`` of ``rows``, in the order of their keys.
    """
    by_class = np.lexsort((keys, labels))
    _, starts, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    place = np.arange(len(rows)) - np.repeat(starts, sizes)  # within its class
    chosen = by_class[np.lexsort((keys[by_class], place))[:most]]
    return np.asarray(rows[chosen[np.argsort(keys[chosen], kind="stable")]])


def of_bins(numbers: Numbers, labels: Labels) -> list[Rows]:
    """Return ``OF_A_BIN`` random rows of each bin that holds images, the classes in turn, by bin.

    Args:
        numbers: (N,) bin of each image; -1 for none.
        labels: (N,) classes.
    """
    keys = row_keys(len(numbers), SEED)
    order = np.argsort(numbers, kind="stable")[np.count_nonzero(numbers < 0) :]
    starts = np.flatnonzero(np.diff(numbers[order])) + 1
    return [first_of_each_class(rows, labels[rows], keys[rows], OF_A_BIN) for rows in np.split(order, starts)]


def of_ends(scores: Scores, labels: Labels) -> dict[str, Rows]:
    """The rows at the ends of the scores, of each class as many.

    Args:
        scores: (N,), NaN for images without one.
        labels: (N,) classes.

    Returns:
        highest: finite scores, from the highest.
        lowest: of those that are not negative, from the lowest.
        negative: from the lowest.
        endless: infinite scores, at random.
    """
    finite = np.isfinite(scores)
    wanted: dict[str, tuple[npt.NDArray[np.bool_], npt.NDArray[Any]]] = {
        "highest": (finite, -scores),
        "lowest": (finite & (scores >= 0), scores),
        "negative": (finite & (scores < 0), scores),
        "endless": (np.isinf(scores), row_keys(len(scores), SEED)),
    }
    found = {}
    for name, (chosen, keys) in wanted.items():
        rows = np.flatnonzero(chosen)
        found[name] = first_of_each_class(rows, labels[rows], keys[rows], OF_AN_END)
    return found
