"""Which bin of the histogram each image is in, and how many there are of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

DEFINITION = {"gallery.counting": 3}

BINS = 60  # between the ends
TAIL = 0.001  # share of the finite scores at either end that need not be between them
Scores = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bins:
    """Bins of equal width, one of whose edges is 0; one before them for minus infinity, one behind for plus infinity.

    Attributes:
        width: width of a bin.
        first: finite edges are width * first, width * (first + 1), ...
        count: number of finite bins; the outer two also hold what is beyond them.
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

    def counts(self, numbers: Numbers, labels: npt.NDArray[np.integer[Any]], classes: int) -> list[list[int]]:
        """Return how many images of each class are in each bin, those without a score left out.

        Args:
            numbers: (N,) bins.
            labels: (N,) classes.
            classes: how many classes there are.
        """
        bins = self.count + 2
        scored = numbers >= 0
        cells = labels[scored].astype(np.int64) * bins + numbers[scored]
        counted: list[list[int]] = np.bincount(cells, minlength=classes * bins).reshape(classes, bins).tolist()
        return counted
