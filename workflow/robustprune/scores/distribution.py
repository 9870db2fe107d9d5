"""How a column of scores is spread, read block by block: counts, exact quantiles, a histogram."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int16]
Blocks = Callable[[], Iterable[Scores]]
"""Reads a column from its first row, however often it is called."""

QUANTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)  # percent
BINS = 100


@dataclass(frozen=True)
class Histogram:
    """Counts of the finite scores in bins of equal width, one of whose edges is 0, so that no bin holds both signs.

    Attributes:
        width: width of a bin.
        first: edges are width * first, width * (first + 1), ...
        counts: number of scores in each bin; a score on an edge is in the bin above, the highest in the last.
    """

    width: float
    first: int
    counts: tuple[int, ...]

    @property
    def edges(self) -> list[float]:
        """One more than counts."""
        return [self.width * (self.first + number) for number in range(len(self.counts) + 1)]

    def coarser(self, factor: int) -> "Histogram":
        """The same with ``factor`` bins in one; 0 stays an edge."""
        first = self.first // factor
        counts = [0] * ((self.first + len(self.counts) - 1) // factor - first + 1)
        for number, count in enumerate(self.counts, self.first):
            counts[number // factor - first] += count
        return Histogram(self.width * factor, first, tuple(counts))

    def lines(self, columns: int = 50) -> list[str]:
        """Text, a line a bin: its lower edge, its count, and a bar that is ``columns`` long in the fullest bin."""
        fullest = max(*self.counts, 1)
        return [
            f"{edge:>11.4g} {count:>11,} {'#' * math.ceil(columns * count / fullest)}".rstrip()
            for edge, count in zip(self.edges, self.counts, strict=False)
        ]


def describe_scores(blocks: Blocks, labels: Labels, classes: int) -> dict[str, Any]:
    """What there is to tell of a pool's scores, in all and for each class.

    Args:
        blocks: gives (n,) float32 scores, a sample's score in its row.
        labels: (N,) class of each sample.
        classes: number of classes.

    Returns:
        images; how many, and what share, are negative or censored (not finite); quantiles of the finite ones and their
        histogram; by class the same counts and the mean of the finite ones.
    """
    counts = np.zeros((3, classes), np.int64)  # all, negative, censored
    sums = np.zeros(classes)
    start = 0
    for values in blocks():
        own = labels[start : start + len(values)]
        finite = np.isfinite(values)
        for row, chosen in enumerate((np.ones_like(finite), values < 0, ~finite)):
            counts[row] += np.bincount(own[chosen], minlength=classes)
        sums += np.bincount(own[finite], weights=values[finite].astype(np.float64), minlength=classes)
        start += len(values)
    total, _, censored = counts.sum(axis=1).tolist()
    found = quantiles(blocks, total - censored, QUANTILES)
    return {
        **_counted(counts.sum(axis=1)),
        "quantiles": {f"{percentage}%": value for percentage, value in zip(QUANTILES, found, strict=False)},
        "histogram": asdict(histogram(blocks, *(found[0], found[-1]) if found else (0.0, 0.0))),
        "by_class": {
            str(number): {**_counted(counts[:, number]), "mean": _ratio(sums[number], own[0] - own[2])}
            for number, own in enumerate(counts.T)
        },
    }


def _counted(counts: npt.NDArray[np.int64]) -> dict[str, Any]:
    images, negative, censored = counts.tolist()
    return {
        "images": images,
        "negative": negative,
        "censored": censored,
        "share_negative": _ratio(negative, images),
        "share_censored": _ratio(censored, images),
    }


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def quantiles(blocks: Blocks, count: int, percentages: Sequence[float]) -> list[float]:
    """Quantiles of the finite scores, linear between neighbours as NumPy's default; none where no score is finite.

    Args:
        blocks: gives (n,) float32 scores.
        count: how many of them are finite.
        percentages: in [0, 100].
    """
    if count == 0:
        return []
    places = [percentage / 100 * (count - 1) for percentage in percentages]
    ranks = sorted({rank for place in places for rank in (math.floor(place), math.ceil(place))})
    value = dict(zip(ranks, order_statistics(blocks, ranks), strict=True))
    low = [value[math.floor(place)] for place in places]
    high = [value[math.ceil(place)] for place in places]
    return [below + (above - below) * (place % 1) for below, above, place in zip(low, high, places, strict=True)]


def order_statistics(blocks: Blocks, ranks: Sequence[int]) -> list[float]:
    """The finite scores of ascending ``ranks`` (0 is the lowest), exact, in memory that does not grow with the scores.

    A radix selection: the upper 16 bits of all scores are counted, then the lower 16 bits of those that share their
    upper bits with a wanted score.
    """
    upper = np.zeros(2**16, np.int64)
    for keys in _keys(blocks):
        upper += np.bincount(keys >> 16, minlength=2**16)
    below = np.concatenate([[0], np.cumsum(upper)])
    bins = np.searchsorted(below, ranks, side="right") - 1
    lower = {number: np.zeros(2**16, np.int64) for number in bins.tolist()}
    for keys in _keys(blocks):
        high = keys >> 16
        for number, counts in lower.items():
            counts += np.bincount(keys[high == number] & 0xFFFF, minlength=2**16)
    low = [
        np.searchsorted(np.cumsum(lower[number]), rank - below[number], side="right")
        for number, rank in zip(bins.tolist(), ranks, strict=True)
    ]
    values: list[float] = _values((bins << 16 | np.array(low)).astype(np.uint32)).tolist()
    return values


def _keys(blocks: Blocks) -> Iterator[npt.NDArray[np.uint32]]:
    """The finite scores as integers in the same order: the bits of a float, all flipped where it is negative."""
    for values in blocks():
        bits = values[np.isfinite(values)].view(np.uint32)
        yield bits ^ np.where(bits >> 31, np.uint32(2**32 - 1), np.uint32(2**31))


def _values(keys: npt.NDArray[np.uint32]) -> Scores:
    return (keys ^ np.where(keys >> 31, np.uint32(2**31), np.uint32(2**32 - 1))).view(np.float32)


def histogram(blocks: Blocks, low: float, high: float) -> Histogram:
    """A histogram of some ``BINS`` bins over the finite scores, which lie between ``low`` and ``high``."""
    low, high = min(low, 0.0), max(high, 0.0)
    width = (high - low) / BINS or 1.0
    first, last = math.floor(low / width), math.ceil(high / width)
    counts = np.zeros(max(last - first, 1), np.int64)
    for values in blocks():
        finite = values[np.isfinite(values)].astype(np.float64)
        numbers = np.clip(np.floor(finite / width).astype(np.int64) - first, 0, len(counts) - 1)
        counts += np.bincount(numbers, minlength=len(counts))
    return Histogram(width, first, tuple(counts.tolist()))
