"""Bins of a gallery's histogram, and which images of a pool are shown: some of each bin, and those at the ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from robustprune.images.drawing import Rows

DEFINITION = {"gallery.counting": 3, "gallery.picks": 1}

BINS = 60  # between the ends
TAIL = 0.001  # share of the finite scores at either end that need not be between them
OF_A_BIN = 24  # images of a pool
OF_AN_END = 160  # images of a pool
SEED = 0

Scores = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Labels = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Bins:
    """Bins of equal width, one of whose edges is 0; one before them for minus infinity, one behind for plus infinity.

    The ``count`` finite bins have the edges width * first, width * (first + 1), ...; the outer two also hold what is
    beyond them.
    """

    width: float
    first: int
    count: int

    @classmethod
    def over(cls, scores: Scores) -> Bins:
        """Some ``BINS`` bins that reach from 0 over all but the outermost ``TAIL`` of the finite scores, (N,).

        No bin holds scores of both signs: the few beyond 0 of scores that else have one sign get a bin of their own.
        """
        finite = scores[np.isfinite(scores)]
        low, high = np.quantile(finite, [TAIL, 1 - TAIL]) if len(finite) else (0.0, 0.0)
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        width = (high - low) / BINS or 1.0
        first = min(int(np.floor(low / width)), -1 if np.any(finite < 0) else 0)
        last = max(int(np.ceil(high / width)), 1 if np.any(finite >= 0) else 0)
        return cls(width, first, max(last - first, 1))

    @property
    def edges(self) -> list[float]:
        """One more than there are finite bins."""
        return [self.width * (self.first + number) for number in range(self.count + 1)]

    def of(self, scores: Scores) -> Numbers:
        """(N,): the bin of each score, 0 for minus infinity, ``count`` + 1 for plus infinity, -1 for NaN."""
        known = np.isfinite(scores)
        places = np.floor(np.where(known, scores, 0.0).astype(np.float64) / self.width) - self.first
        clipped: Numbers = np.clip(places, 0, self.count - 1).astype(np.int64)  # int64 may not hold what is clipped
        numbers = 1 + clipped
        numbers[scores == -np.inf], numbers[scores == np.inf], numbers[np.isnan(scores)] = 0, self.count + 1, -1
        return numbers

    def counts(self, numbers: Numbers, labels: Labels, classes: int) -> list[list[int]]:
        """Return how many images of each class are in each bin, without those of bin -1; both arrays are (N,)."""
        bins = self.count + 2
        scored = numbers >= 0
        cells = labels[scored].astype(np.int64) * bins + numbers[scored]
        counted: list[list[int]] = np.bincount(cells, minlength=classes * bins).reshape(classes, bins).tolist()
        return counted


def first_of_each_class(rows: Rows, labels: Labels, keys: npt.NDArray[Any], most: int) -> Rows:
    """Return each class's row of the lowest key, then each one's second, and so on, until there are ``most``.

    Rows, labels and keys are (n,); the result is in the order of the keys.
    """
    by_class = np.lexsort((keys, labels))
    _, starts, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    place = np.arange(len(rows)) - np.repeat(starts, sizes)  # within its class
    chosen = by_class[np.lexsort((keys[by_class], place))[:most]]
    return np.asarray(rows[chosen[np.argsort(keys[chosen], kind="stable")]])


def of_bins(numbers: Numbers, labels: Labels) -> list[Rows]:
    """Return ``OF_A_BIN`` random rows of each bin that holds images, the classes in turn, by bin; -1 is no bin."""
    from robustprune.images.drawing import row_keys

    keys = row_keys(len(numbers), SEED)
    order = np.argsort(numbers, kind="stable")[np.count_nonzero(numbers < 0) :]
    starts = np.flatnonzero(np.diff(numbers[order])) + 1
    return [first_of_each_class(rows, labels[rows], keys[rows], OF_A_BIN) for rows in np.split(order, starts)]


def of_ends(scores: Scores, labels: Labels) -> dict[str, Rows]:
    """Return the rows at the ends of the (N,) scores, NaN for images without one, of each class as many.

    Returns:
        highest: finite scores, from the highest.
        lowest: of those that are not negative, from the lowest.
        negative: from the lowest.
        endless: infinite scores, at random.
    """
    from robustprune.images.drawing import row_keys

    finite = np.isfinite(scores)
    wanted: dict[str, tuple[npt.NDArray[np.bool_], npt.NDArray[Any]]] = {
        "highest": (finite, -scores),
        "lowest": (finite & (scores >= 0), scores),
        "negative": (finite & (scores < 0), scores),
        "endless": (np.isinf(scores), row_keys(len(scores), SEED)),
    }
    ends = {}
    for name, (chosen, keys) in wanted.items():
        rows = np.flatnonzero(chosen)
        ends[name] = first_of_each_class(rows, labels[rows], keys[rows], OF_AN_END)
    return ends
