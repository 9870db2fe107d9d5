"""The images a manifest chooses from, and the key of each that decides where chance or a tie has to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from robustprune.core.randomness import derive_seed

if TYPE_CHECKING:
    from robustprune.pruning.settings import Among, Per

DEFINITION = {"pruning.candidates": 1}

Positions = npt.NDArray[np.int64]
"""(M,) ascending positions among the candidates."""

Members = slice | Positions
"""Some of the candidates: a run of them, of which nothing has to be copied, or their positions."""


def take(members: Members, chosen: Positions) -> Positions:
    """The positions among all candidates of those that are at ``chosen`` among the members."""
    if isinstance(members, slice):
        return chosen + members.start if members.start else chosen
    return members[chosen]


def positions_of(members: Members) -> Positions:
    """The positions of all the members."""
    return np.arange(members.start, members.stop) if isinstance(members, slice) else members


@dataclass(frozen=True)
class Candidates:
    """Images of several pools, pool after pool, the rows of each ascending.

    Attributes:
        pools: id of each pool.
        first: the first row of each pool that is a candidate; all rows after it are.
        counts: number of candidates of each pool.
        labels: (N,) int16.
        score: (N,) float32 without NaN, infinite where no boundary was found; None where chance decides.
        easy: the end of the score at which the easy images are.
    """

    pools: tuple[str, ...]
    first: tuple[int, ...]
    counts: tuple[int, ...]
    labels: npt.NDArray[np.int16]
    score: npt.NDArray[np.float32] | None = None
    easy: Literal["high", "low"] = "high"

    def __len__(self) -> int:
        return len(self.labels)

    def scored(self, score: npt.NDArray[np.float32], easy: Literal["high", "low"]) -> Candidates:
        """The same images with a score."""
        return replace(self, score=score, easy=easy)

    def pool_numbers(self, positions: Positions) -> npt.NDArray[np.int32]:
        """(M,): which of the pools each image is of."""
        stops = np.searchsorted(positions, np.cumsum(self.counts))
        return np.repeat(np.arange(len(self.pools), dtype=np.int32), np.diff(stops, prepend=0))

    def indices(self, positions: Positions) -> Positions:
        """(M,): the row of each image in its pool."""
        shifts = np.array(self.first) - (np.cumsum(self.counts) - self.counts)
        return np.asarray(positions + shifts[self.pool_numbers(positions)])

    def keys(self, positions: Positions, seed: int) -> npt.NDArray[np.uint64]:
        """(M,): 64 random bits for each image, from the seed, its pool's id and its row, and from nothing else."""
        seeds = np.array([derive_seed(seed, "pruning", pool) for pool in self.pools], dtype=np.uint64)
        keys = self.indices(positions).view(np.uint64)
        keys *= np.uint64(0x9E3779B97F4A7C15)
        keys += seeds[self.pool_numbers(positions)]
        return _mix(keys)

    def among(self, which: Among) -> slice:
        """All candidates, those of the first pool, which is the real one, or those of the others."""
        real = self.counts[0]
        return {"all": slice(0, len(self)), "real": slice(0, real), "synthetic": slice(real, len(self))}[which]

    def groups(self, per: Per, within: slice) -> Iterator[tuple[str, Members]]:
        """Name and members, out of the candidates ``within``: all, those of each class, or those of each source."""
        if per == "all":
            yield "all", within
        elif per == "source":
            stops = np.cumsum(self.counts).tolist()
            for pool, count, stop in zip(self.pools, self.counts, stops, strict=True):
                if within.start <= stop - count and stop <= within.stop:
                    yield pool, slice(stop - count, stop)
        else:
            labels = self.labels[within]
            order = np.argsort(labels, kind="stable")
            classes, starts = np.unique(labels[order], return_index=True)
            for label, positions in zip(classes, np.split(order + within.start, starts[1:]), strict=True):
                yield str(label), positions


def _mix(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele et al. 2014, https://doi.org/10.1145/2714064.2660195), in place."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys ^= keys >> np.uint64(shift)
        keys *= np.uint64(factor)
    keys ^= keys >> np.uint64(31)
    return keys
