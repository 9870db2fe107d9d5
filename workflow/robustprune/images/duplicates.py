"""Images that are there more than once, in a pool or in two, found by their digests."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.images.pool import DIGESTS_FILE, LABELS_FILE, AnyLabels, Digests, read_digests

logger = logging.getLogger(__name__)
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


def facts_of_repeats(job: Job) -> dict[str, Any]:
    """Return whether a filled pool is in the order of its classes, and its repeats, for the record."""
    labels, digests = (np.load(job.output(name), mmap_mode="r") for name in (LABELS_FILE, DIGESTS_FILE))
    by_class = sorted_by_class(labels)
    if by_class:
        logger.warning("the images are sorted by class: the first so many of them are not a fair sample")
    repeats = find_repeats(digests, labels)
    if repeats.first is not None:
        logger.warning(
            "%d images are equal to one before them, the first in row %d to row %d; %d of them have another label",
            *(repeats.images, *repeats.first, repeats.with_other_label),
        )
    return {
        "sorted_by_class": by_class,
        "duplicates": {"images": repeats.images, "with_other_label": repeats.with_other_label},
    }


def facts_of_overlaps(job: Job, others: Mapping[str, str | None], *, allowed: bool, place: str) -> dict[str, Any]:
    """Return how many images of the pool that a job has filled are also training or test images, for the record.

    Args:
        job: the running stage.
        others: by split, ``train`` or ``test``, the pool to compare with; None for none.
        allowed: whether test images may be among them.
        place: where the images lie, for a message.

    Raises:
        UserError: where there are test images among them that must not be.
    """
    counts = {}
    for split, other in others.items():
        if other is None:
            continue
        digests = np.load(job.output(DIGESTS_FILE), mmap_mode="r")
        rows = rows_also_in(digests, read_digests(job.upstream("pools", other)))
        counts[split] = len(rows)
        if len(rows) and split == "test":
            found = f"{place}: {len(rows):,} images, the first in row {rows[0]}, are also test images"
            remedy = "so a model would be tested on what it learnt; take them out, or set data.overlap: allowed"
            if not allowed:
                raise UserError(f"{found}, {remedy}")
            logger.warning("%s", found)
    return {"also_in": counts} if counts else {}


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
    if len(other) > len(digests):
        own = np.sort(digests)
        other = np.concatenate([part[_among(part, own)] for _, part in _read(other)])
    known = np.sort(other)
    parts = [first + np.flatnonzero(_among(part, known)) for first, part in _read(digests)]
    return np.concatenate([np.empty(0, np.int64), *parts])


def sorted_by_class(labels: AnyLabels) -> bool:
    """Return True if images of several classes are in the order of their labels; read part by part."""
    last, several = None, False
    for start in range(0, len(labels), READ_AT_ONCE):
        part = np.asarray(labels[start : start + READ_AT_ONCE])
        if (np.diff(part) < 0).any() or (last is not None and part[0] < last):
            return False
        several = several or part[0] != part[-1] or (last is not None and part[0] != last)
        last = part[-1]
    return bool(several)


def _among(digests: Digests, known: Digests) -> npt.NDArray[np.bool_]:
    """Return True for each of the ``known``, which are sorted; ``np.isin`` would sort them for every part."""
    if not len(known):
        return np.zeros(len(digests), np.bool_)
    return np.asarray(known.take(np.searchsorted(known, digests), mode="clip") == digests)


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
