"""The distribution of a column of scores, read block by block: counts, exact quantiles, a histogram."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Integers = npt.NDArray[np.integer[Any]]
Blocks = Callable[[], Iterable[Scores]]
"""Reads a column from its first row, each time it is called."""

QUANTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)  # percent
GROUP_QUANTILES = (5, 50, 95)
GROUPS_AT_ONCE = 16  # each takes up to 8 MB while its quantiles are computed
PIECE_ROWS = 2**18  # counted at once: temporary arrays take many times the memory of the scores
BINS = 100


@dataclass(frozen=True)
class Histogram:
    """Counts of the finite scores in bins of equal width; 0 is an edge, so no bin holds both signs."""

    width: float
    first: int  # edges are width * first, width * (first + 1), ...
    counts: tuple[int, ...]  # a score on an edge is in the bin above, the highest in the last

    @property
    def edges(self) -> list[float]:
        """The edges, one more than counts."""
        return [self.width * (self.first + number) for number in range(len(self.counts) + 1)]

    def coarser(self, factor: int) -> Histogram:
        """Return the histogram with ``factor`` bins in one; 0 stays an edge."""
        first = self.first // factor
        counts = [0] * ((self.first + len(self.counts) - 1) // factor - first + 1)
        for number, count in enumerate(self.counts, self.first):
            counts[number // factor - first] += count
        return Histogram(self.width * factor, first, tuple(counts))

    def lines(self, columns: int = 50) -> list[str]:
        """Return one line per bin: its lower edge, its count, and a bar, ``columns`` long in the fullest bin."""
        fullest = max(*self.counts, 1)
        return [
            f"{edge:>11.4g} {count:>11,} {'#' * math.ceil(columns * count / fullest)}".rstrip()
            for edge, count in zip(self.edges, self.counts, strict=False)
        ]


@dataclass(frozen=True)
class Grouping:
    """A pool's samples in groups, such as its classes."""

    names: tuple[str, ...]
    numbers: Callable[[int, int], Integers]  # the group numbers of the rows from ``start`` to ``stop`` - 1


def by_class(labels: Integers, classes: int) -> Grouping:
    """Return a grouping with one group per class; ``labels`` is (N,)."""
    return Grouping(tuple(str(number) for number in range(classes)), lambda start, stop: labels[start:stop])


def by_run(counts: Mapping[str, int]) -> Grouping:
    """Return a grouping into consecutive runs of rows; ``counts`` holds their lengths by name."""
    stops = np.cumsum(list(counts.values()))
    return Grouping(tuple(counts), lambda start, stop: np.searchsorted(stops, np.arange(start, stop), side="right"))


def describe_scores(blocks: Blocks, groupings: Mapping[str, Grouping]) -> dict[str, Any]:
    """Return the distribution of a pool's scores, in all and for each group.

    Returns:
        number of images; number and share of negative and of censored (not finite) scores; quantiles and histogram of
        the finite scores; and for each key of ``groupings`` and each group the same counts, the mean of the finite
        scores, and some quantiles.
    """
    whole = Grouping(("all",), lambda start, stop: np.zeros(stop - start, np.int16))
    counts = _counts(blocks, whole)
    (values,) = _quantiles(blocks, whole, counts, QUANTILES)
    del counts["all"]["mean"]
    return {
        **counts["all"],
        "quantiles": values,
        "histogram": asdict(histogram(blocks, values.get("0%", 0.0), values.get("100%", 0.0))),
        **{key: _by_group(blocks, grouping) for key, grouping in groupings.items()},
    }


def _by_group(blocks: Blocks, grouping: Grouping) -> dict[str, dict[str, Any]]:
    counts = _counts(blocks, grouping)
    quantiles = _quantiles(blocks, grouping, counts, GROUP_QUANTILES)
    return {name: {**counts[name], **values} for name, values in zip(grouping.names, quantiles, strict=True)}


def _counts(blocks: Blocks, grouping: Grouping) -> dict[str, dict[str, Any]]:
    """Return counts and shares of each group, and the mean of its finite scores."""
    groups = len(grouping.names)
    counts = np.zeros((3, groups), np.int64)  # all, negative, censored
    sums = np.zeros(groups)
    for values, group in _pieces(blocks, grouping):
        finite = np.isfinite(values)
        for row, chosen in enumerate((np.ones_like(finite), values < 0, ~finite)):
            counts[row] += np.bincount(group[chosen], minlength=groups)
        sums += np.bincount(group[finite], weights=values[finite].astype(np.float64), minlength=groups)
    return {
        name: {
            "images": images,
            "negative": negative,
            "censored": censored,
            "share_negative": _ratio(negative, images),
            "share_censored": _ratio(censored, images),
            "mean": _ratio(total, images - censored),
        }
        for name, (images, negative, censored), total in zip(grouping.names, counts.T.tolist(), sums, strict=True)
    }


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _quantiles(
    blocks: Blocks, grouping: Grouping, counts: Mapping[str, Mapping[str, int]], percentages: Sequence[int]
) -> list[dict[str, float]]:
    """Return quantiles of each group's finite scores, interpolated linearly; none for a group without finite scores."""
    finite = [counts[name]["images"] - counts[name]["censored"] for name in grouping.names]
    places = [np.array(percentages) / 100 * (count - 1) for count in finite]
    ranks = [
        np.unique([np.floor(place), np.ceil(place)]).astype(int).tolist() if count else []
        for place, count in zip(places, finite, strict=True)
    ]
    values = order_statistics(blocks, grouping, ranks)
    names = [f"{percentage}%" for percentage in percentages]
    return [
        dict(zip(names, (np.interp(*group) + 0.0).tolist(), strict=True)) if group[1] else {}  # adding 0 makes -0 a 0
        for group in zip(places, ranks, values, strict=True)
    ]


def order_statistics(blocks: Blocks, grouping: Grouping, ranks: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return each group's finite scores of the given ranks (0 is the lowest), exact, in bounded memory.

    A radix selection: the upper 16 bits of all scores are counted, then the lower 16 bits of those that share their
    upper bits with a wanted score.
    """
    values: list[list[float]] = []
    for first in range(0, len(ranks), GROUPS_AT_ONCE):
        values += _order_statistics(blocks, grouping, first, ranks[first : first + GROUPS_AT_ONCE])
    return values


def _order_statistics(
    blocks: Blocks, grouping: Grouping, first: int, ranks: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Return the order statistics of the groups from number ``first`` on."""
    upper = np.zeros(len(ranks) << 16, np.int64)  # counts by group and upper bits
    for _, bins in _keys(blocks, grouping, first, len(ranks)):
        np.add.at(upper, bins, 1)
    below = np.cumsum(upper.reshape(-1, 2**16), axis=1) - upper.reshape(-1, 2**16)
    pairs = [(group, rank) for group, of_group in enumerate(ranks) for rank in of_group]
    group, rank = np.array(pairs, np.int64).reshape(-1, 2).T
    high = np.array([np.searchsorted(below[group], rank, side="right") - 1 for group, rank in pairs], np.int64)
    wanted, slots = np.unique(group << 16 | high, return_inverse=True)
    slot_of = np.full(len(upper), -1, np.int64)
    slot_of[wanted] = np.arange(len(wanted))
    lower = np.zeros(len(wanted) << 16, np.int64)  # counts by wanted bin and lower bits
    for keys, bins in _keys(blocks, grouping, first, len(ranks)):
        slot = slot_of[bins]
        np.add.at(lower, (slot << 16 | keys & 0xFFFF)[slot >= 0], 1)
    up_to = np.cumsum(lower.reshape(-1, 2**16), axis=1)
    remaining = rank - below[group, high]
    low = [np.searchsorted(up_to[slot], rank, side="right") for slot, rank in zip(slots, remaining, strict=True)]
    values = _ordered(((high << 16 | np.array(low, np.int64)) - 2**31).astype(np.int32)).view(np.float32)
    ends = np.cumsum([len(of_group) for of_group in ranks])
    return [of_group.tolist() for of_group in np.split(values, ends[:-1])]


def _keys(
    blocks: Blocks, grouping: Grouping, first: int, groups: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield the finite scores of some groups as 32-bit integers in the same order, and their group and upper bits."""
    for values, numbers in _pieces(blocks, grouping):
        group = numbers.astype(np.int64) - first
        chosen = np.isfinite(values) & (group >= 0) & (group < groups)
        keys = _ordered(values[chosen].view(np.int32)).astype(np.int64) + 2**31
        yield keys, group[chosen] << 16 | keys >> 16


def _ordered(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Convert the bits of floats to integers that sort as the floats do, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _pieces(blocks: Blocks, grouping: Grouping) -> Iterator[tuple[Scores, Integers]]:
    """Yield the blocks in pieces, each with the group numbers of its rows."""
    start = 0
    for block in blocks():
        for values in (block[first : first + PIECE_ROWS] for first in range(0, len(block), PIECE_ROWS)):
            yield values, grouping.numbers(start, start + len(values))
            start += len(values)


def histogram(blocks: Blocks, low: float, high: float) -> Histogram:
    """Return a histogram with about ``BINS`` bins of the finite scores, which lie between ``low`` and ``high``."""
    low, high = min(low, 0.0), max(high, 0.0)
    width = (high - low) / BINS or 1.0
    first, last = math.floor(low / width), math.ceil(high / width)
    counts = np.zeros(max(last - first, 1), np.int64)
    for values in blocks():
        finite = values[np.isfinite(values)].astype(np.float64)
        numbers = np.clip(np.floor(finite / width).astype(np.int64) - first, 0, len(counts) - 1)
        counts += np.bincount(numbers, minlength=len(counts))
    return Histogram(width, first, tuple(counts.tolist()))
