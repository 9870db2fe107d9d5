"""Images that occur more than once, in one pool or in two, found by their digests."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.images.pool import DIGESTS_FILE, LABELS_FILE, ROWS_FILE, AnyLabels, Digests, open_pool, read_digests
from robustprune.images.settings import Overlap

logger = logging.getLogger(__name__)
PART_ROWS = 2**20  # digests that are sorted at once
READ_AT_ONCE = 2**20  # rows

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Repeats:
    """Numbers of images of a pool that are equal to an earlier one."""

    images: int
    with_other_label: int  # than the first image that they are equal to
    first: tuple[int, int] | None  # row of the first of them, and the row that it is equal to


def facts_of_duplicates(
    job: Job, *, train: str | None = None, test: str | None, overlap: Overlap, place: str
) -> dict[str, Any]:
    """Return the facts of a filled pool: its order, its repeats, and the images that the other pools have, too.

    Raises:
        UserError: if it has test images and ``overlap`` is refused; ``place`` says where its images are.
    """
    labels, digests = (np.load(job.output(name), mmap_mode="r") for name in (LABELS_FILE, DIGESTS_FILE))
    by_class, repeats = sorted_by_class(labels), find_repeats(digests, labels)
    if by_class:
        logger.warning("the images are sorted by class: the first so many of them are not a fair sample")
    if repeats.first is not None:
        logger.warning(
            "%d images are equal to one before them, the first in row %d to row %d; %d of them have another label",
            *(repeats.images, *repeats.first, repeats.with_other_label),
        )
    duplicates = {"images": repeats.images, "with_other_label": repeats.with_other_label}
    facts: dict[str, Any] = {"sorted_by_class": by_class, "duplicates": duplicates}
    others = {split: pool for split, pool in {"train": train, "test": test}.items() if pool}
    also_in = {split: rows_also_in(digests, read_digests(job.upstream("pools", others[split]))) for split in others}
    if "test" in also_in:
        _check_test_images(also_in["test"], overlap, place)
    return {**facts, "also_in": {split: len(rows) for split, rows in also_in.items()}} if also_in else facts


def _check_test_images(rows: Rows, overlap: Overlap, place: str) -> None:
    if not len(rows):
        return
    found = f"{place}: {len(rows):,} images, the first in row {rows[0]}, are also test images"
    if overlap == "refused":
        remedy = "so a model would be tested on what it learnt; take them out, or set data.overlap: allowed"
        raise UserError(f"{found}, {remedy}")
    logger.warning("%s", found)


def find_repeats(digests: Digests, labels: AnyLabels) -> Repeats:
    """Find equal images in a pool; (N,) digests and labels may be memory-mapped and are read part by part."""
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
    """Return the rows, ascending, of the images that another pool has, too. Memory grows with the smaller pool."""
    if len(other) > len(digests):
        known = np.sort(digests)
        other = np.concatenate([part[_among(part, known)] for _, part in _read(other)])
    known = np.sort(other)
    parts = [first + np.flatnonzero(_among(part, known)) for first, part in _read(digests)]
    return np.concatenate([np.empty(0, np.int64), *parts])


def sorted_by_class(labels: AnyLabels) -> bool:
    """Return True if images of several classes are in the order of their labels, which are read part by part."""
    several = False
    for start in range(0, len(labels), READ_AT_ONCE):
        steps = np.diff(labels[max(0, start - 1) : start + READ_AT_ONCE])
        if (steps < 0).any():
            return False
        several = several or bool(steps.any())
    return several


def _among(digests: Digests, known: Digests) -> npt.NDArray[np.bool_]:
    """Like ``np.isin``, which would sort the sorted ``known`` again for every part."""
    if not len(known):
        return np.zeros(len(digests), np.bool_)
    return np.asarray(known.take(np.searchsorted(known, digests), mode="clip") == digests)


def _read(digests: Digests) -> Iterator[tuple[int, Digests]]:
    for start in range(0, len(digests), READ_AT_ONCE):
        yield start, np.asarray(digests[start : start + READ_AT_ONCE])


def _parts(digests: Digests) -> Iterator[Rows]:
    """Yield the rows, ascending, of the digests with the same remainder, so that equal ones are in the same part."""
    count = max(1, -(-len(digests) // PART_ROWS))
    for number in range(count):
        rows = [start + np.flatnonzero(part % np.uint64(count) == number) for start, part in _read(digests)]
        yield np.concatenate(rows)


def compare_pools(first: Path, second: Path) -> str:
    """Return a report on the rows and the images that the pools in two directories have in common.

    Raises:
        UserError: if a directory has no pool, or a member of a pool is gone.
    """
    counts = len(open_pool(first)), len(open_pool(second))
    lines = [f"A  {first}: {counts[0]:,} images", f"B  {second}: {counts[1]:,} images"]
    stored, other = _stored_rows(first, np.arange(counts[0])), _stored_rows(second, np.arange(counts[1]))
    by_row = {name: len(np.intersect1d(rows, other[name])) for name, rows in stored.items() if name in other}
    lines += [f"in both, rows of {name}: {count:,}" for name, count in by_row.items()]
    if not by_row:
        lines.append("in both, rows: none, as they are no parts of one pool")
    equal = len(rows_also_in(read_digests(first), read_digests(second)))
    lines.append(f"in both, by their pixels: {equal:,} images of A")
    lines.append("they overlap" if equal or any(by_row.values()) else "they are disjoint")
    return "\n".join(lines)


def _stored_rows(directory: Path, rows: Rows) -> dict[str, Rows]:
    """Return, by the pool that stores them, the rows of the images in ``rows`` of a pool."""
    info = open_pool(directory).info
    if info.storage != "view":
        return {directory.name: rows}
    if (directory / ROWS_FILE).is_file():
        rows = np.load(directory / ROWS_FILE, mmap_mode="r")[rows]
    stored: dict[str, Rows] = {}
    first = 0
    for member in info.members:
        of_member = rows[(rows >= first) & (rows < first + member.count)] - first
        for name, part in _stored_rows(directory.absolute().parent / member.pool, of_member).items():
            stored[name] = np.union1d(stored[name], part) if name in stored else part
        first += member.count
    return stored
