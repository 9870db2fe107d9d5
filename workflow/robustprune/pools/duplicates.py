"""Images that are there more than once, in a pool or in two, found by their digests."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustprune.pools.format import AnyLabels, Digests

PART_ROWS = 2**20  # digests that are sorted at once
READ_AT_ONCE = 2**20  # rows

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Repeats:
    """Images of a pool that are equal to one before them.

    Attributes:
        images: how many.
        with_other_label: how many of them have another label than the first image that they are equal to.
        first: row of the first of them, and of what it is equal to.
    """

    images: int
    with_other_label: int
    first: tuple[int, int] | None


def find_repeats(digests: Digests, labels: AnyLabels) -> Repeats:
    """Equal images within a pool; (N,) digests and labels may be memory-mapped, and are read part by part."""
    images = other_label = 0
    first: tuple[int, int] | None = None
    for rows in _parts(digests):
        _, originals, inverse = np.unique(digests[rows], return_index=True, return_inverse=True)
        original = rows[originals[inverse]]
        repeated = original != rows
        images += int(repeated.sum())
        other_label += int((labels[rows[repeated]] != labels[original[repeated]]).sum())
        if repeated.any():
            at = int(np.flatnonzero(repeated)[0])
            pair = int(rows[at]), int(original[at])
            first = pair if first is None else min(first, pair)
    return Repeats(images, other_label, first)


def rows_also_in(digests: Digests, other: Digests) -> Rows:
    """Rows of the images, by ``digests``, that another pool has, too; in order. Memory goes with the smaller pool."""
    if len(other) <= len(digests):
        known = np.unique(other)
        parts = [first + np.flatnonzero(np.isin(part, known)) for first, part in _read(digests)]
        return np.concatenate([np.empty(0, np.int64), *parts])
    shared = np.unique(np.concatenate([part[np.isin(part, digests)] for _, part in _read(other)]))
    return np.flatnonzero(np.isin(digests, shared))


def sorted_by_class(labels: AnyLabels) -> bool:
    """Whether images of several classes are in the order of their labels; read part by part."""
    last, several = None, False
    for start in range(0, len(labels), READ_AT_ONCE):
        part = np.asarray(labels[start : start + READ_AT_ONCE])
        if (np.diff(part) < 0).any() or (last is not None and part[0] < last):
            return False
        several = several or part[0] != part[-1] or (last is not None and part[0] != last)
        last = part[-1]
    return bool(several)


def _read(digests: Digests) -> Iterator[tuple[int, Digests]]:
    for start in range(0, len(digests), READ_AT_ONCE):
        yield start, np.asarray(digests[start : start + READ_AT_ONCE])


def _parts(digests: Digests) -> Iterator[Rows]:
    """Rows, in order, of the digests with the same first bits: equal ones are in the same part."""
    bits = max(0, int(np.ceil(np.log2(max(1, len(digests)) / PART_ROWS))))
    for number in range(2**bits):
        found = [
            start + np.flatnonzero((part >> np.uint64(64 - bits)) == number if bits else np.ones(len(part), np.bool_))
            for start, part in _read(digests)
        ]
        yield np.concatenate(found)
