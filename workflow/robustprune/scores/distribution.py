"""How a column of scores is spread, read block by block: counts, exact quantiles, a histogram."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int16]
Groups = npt.NDArray[np.integer[Any]]
Keys = npt.NDArray[np.int64]
Blocks = Callable[[], Iterable[Scores]]
"""Reads a column from its first row, however often it is called."""

QUANTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)  # percent
GROUP_QUANTILES = (5, 50, 95)
GROUPS_AT_ONCE = 16  # each takes up to 8 MB while its quantiles are looked for
PIECE_ROWS = 2**18  # counted at once: what stands for them in between takes many times their memory
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

    def coarser(self, factor: int) -> Histogram:
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


@dataclass(frozen=True)
class Grouping:
    """A pool's samples in groups, such as its classes.

    Attributes:
        names: of the groups.
        of: gives (n,) numbers of the groups of the rows from the first to before the second.
    """

    names: tuple[str, ...]
    of: Callable[[int, int], Groups]


def by_class(labels: Labels, classes: int) -> Grouping:
    """A group a class; ``labels``: (N,)."""
    return Grouping(tuple(str(number) for number in range(classes)), lambda start, stop: labels[start:stop])


def by_run(counts: Mapping[str, int]) -> Grouping:
    """A group for each of some runs of rows, one after the other; ``counts``: their lengths, by name."""
    stops = np.cumsum(list(counts.values()))
    return Grouping(tuple(counts), lambda start, stop: np.searchsorted(stops, np.arange(start, stop), side="right"))


def describe_scores(blocks: Blocks, groupings: Mapping[str, Grouping]) -> dict[str, Any]:
    """Return what there is to tell of a pool's scores, in all and for each group.

    Args:
        blocks: gives (n,) float32 scores, a sample's score in its row.
        groupings: ways to put the samples into groups, by the key under which they are told.

    Returns:
        images; how many, and what share, are negative or censored (not finite); quantiles of the finite ones and their
        histogram; and under each key for each group the same counts, the mean of the finite ones, and some quantiles.
    """
    whole = Grouping(("all",), lambda start, stop: np.zeros(stop - start, np.int16))
    totals = _counted(blocks, whole)["all"]
    (found,) = quantiles(blocks, whole, [totals["images"] - totals["censored"]], QUANTILES)
    del totals["mean"]
    return {
        **totals,
        "quantiles": _percentages(QUANTILES, found),
        "histogram": asdict(histogram(blocks, *(found[0], found[-1]) if found else (0.0, 0.0))),
        **{key: _described(blocks, grouping) for key, grouping in groupings.items()},
    }


def _described(blocks: Blocks, grouping: Grouping) -> dict[str, dict[str, Any]]:
    """Counts, mean and quantiles of each group."""
    counted = _counted(blocks, grouping)
    finite = [own["images"] - own["censored"] for own in counted.values()]
    found = quantiles(blocks, grouping, finite, GROUP_QUANTILES)
    return {
        name: {**own, **_percentages(GROUP_QUANTILES, values)}
        for (name, own), values in zip(counted.items(), found, strict=True)
    }


def _counted(blocks: Blocks, grouping: Grouping) -> dict[str, dict[str, Any]]:
    """Counts and shares of each group, and the mean of its finite scores."""
    groups = len(grouping.names)
    counts = np.zeros((3, groups), np.int64)  # all, negative, censored
    sums = np.zeros(groups)
    for values, own in _grouped(blocks, grouping):
        finite = np.isfinite(values)
        for row, chosen in enumerate((np.ones_like(finite), values < 0, ~finite)):
            counts[row] += np.bincount(own[chosen], minlength=groups)
        sums += np.bincount(own[finite], weights=values[finite].astype(np.float64), minlength=groups)
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


def _grouped(blocks: Blocks, grouping: Grouping) -> Iterator[tuple[Scores, Groups]]:
    """The blocks in pieces, each with the groups of its rows."""
    start = 0
    for block in blocks():
        for values in (block[first : first + PIECE_ROWS] for first in range(0, len(block), PIECE_ROWS)):
            yield values, grouping.of(start, start + len(values))
            start += len(values)


def _percentages(percentages: Sequence[float], values: list[float]) -> dict[str, float]:
    return {f"{percentage}%": value for percentage, value in zip(percentages, values, strict=False)}


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def quantiles(
    blocks: Blocks, grouping: Grouping, counts: Sequence[int], percentages: Sequence[float]
) -> list[list[float]]:
    """Quantiles of each group's finite scores, linear between neighbours as NumPy's default; none where none is finite.

    Args:
        blocks: gives (n,) float32 scores.
        grouping: the groups.
        counts: how many finite scores each has.
        percentages: in [0, 100].
    """
    places = [[percentage / 100 * (count - 1) for percentage in percentages] if count else [] for count in counts]
    ranks = [sorted({rank for place in own for rank in (math.floor(place), math.ceil(place))}) for own in places]
    values = order_statistics(blocks, grouping, ranks)
    return [_between(own, dict(zip(*pair, strict=True))) for own, *pair in zip(places, ranks, values, strict=True)]


def _between(places: list[float], value: dict[int, float]) -> list[float]:
    """Values at fractional ranks."""
    pairs = [(value[math.floor(place)], value[math.ceil(place)]) for place in places]
    return [below + (above - below) * (place % 1) for (below, above), place in zip(pairs, places, strict=True)]


def order_statistics(blocks: Blocks, grouping: Grouping, ranks: Sequence[Sequence[int]]) -> list[list[float]]:
    """Each group's finite scores of ascending ``ranks`` (0 is the lowest), exact, in memory that scores do not fill.

    A radix selection: the upper 16 bits of all scores are counted, then the lower 16 bits of those that share their
    upper bits with a wanted score. ``GROUPS_AT_ONCE`` groups at a time.
    """
    values: list[list[float]] = []
    for first in range(0, len(ranks), GROUPS_AT_ONCE):
        values += _order_statistics(blocks, grouping, first, ranks[first : first + GROUPS_AT_ONCE])
    return values


def _order_statistics(
    blocks: Blocks, grouping: Grouping, first: int, ranks: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Those of the groups ``first``, ``first`` + 1, ..."""
    groups = len(ranks)
    upper = np.zeros(groups << 16, np.int64)  # by group and upper bits
    for keys, own in _keys(blocks, grouping, first, groups):
        np.add.at(upper, own << 16 | keys >> 16, 1)
    below = np.cumsum(upper.reshape(groups, -1), axis=1) - upper.reshape(groups, -1)
    bins = [np.searchsorted(below[own], wanted, side="right") - 1 for own, wanted in enumerate(ranks)]
    wanted_bins, slots = np.unique(
        np.concatenate([own << 16 | found for own, found in enumerate(bins)]).astype(np.int64), return_inverse=True
    )
    slot_of = np.full(len(upper), -1, np.int64)
    slot_of[wanted_bins] = np.arange(len(wanted_bins))
    lower = np.zeros(len(wanted_bins) << 16, np.int64)  # by wanted bin and lower bits
    for keys, own in _keys(blocks, grouping, first, groups):
        slot = slot_of[own << 16 | keys >> 16]
        np.add.at(lower, (slot << 16 | keys & 0xFFFF)[slot >= 0], 1)
    up_to = np.cumsum(lower.reshape(-1, 2**16), axis=1)
    return _read_off(ranks, bins, below, np.split(slots, np.cumsum([len(found) for found in bins])[:-1]), up_to)


def _read_off(
    ranks: Sequence[Sequence[int]],
    bins: list[npt.NDArray[np.int64]],
    below: npt.NDArray[np.int64],
    slots: list[npt.NDArray[np.int64]],
    up_to: npt.NDArray[np.int64],
) -> list[list[float]]:
    """The score of each rank, from the counts below each bin of upper bits and up to each value of lower bits."""
    found: list[list[float]] = []
    for own, wanted in enumerate(ranks):
        low = [
            np.searchsorted(up_to[slot], rank - below[own, high], side="right")
            for rank, high, slot in zip(wanted, bins[own].tolist(), slots[own].tolist(), strict=True)
        ]
        found.append(_values((bins[own] << 16 | np.array(low, np.int64)).astype(np.uint32)).tolist())
    return found


def _keys(blocks: Blocks, grouping: Grouping, first: int, groups: int) -> Iterator[tuple[Keys, Keys]]:
    """The finite scores of some groups as integers in the same order, and their groups, counted from ``first``.

    They are the bits of a float, all flipped where it is negative.
    """
    for values, numbers in _grouped(blocks, grouping):
        own = numbers.astype(np.int64) - first
        chosen = np.isfinite(values) & (own >= 0) & (own < groups)
        bits = values[chosen].view(np.uint32)
        yield (bits ^ np.where(bits >> 31, np.uint32(2**32 - 1), np.uint32(2**31))).astype(np.int64), own[chosen]


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
