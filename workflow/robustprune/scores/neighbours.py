"""Exact k-nearest-neighbour search by blocks of inner products, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from robustprune.scores.extrapolated import Distance

DEFINITION = {"extrapolation.neighbours": 1}

BLOCK_ROWS = 8192  # points compared with the targets at once
GROUP = 64  # inner products that are first compared by their largest alone
ROW_BITS = 32  # of a key
LOWEST = torch.iinfo(torch.int64).min

Embeddings = npt.NDArray[np.floating[Any] | np.uint8]  # (N, D)


@dataclass(frozen=True)
class Points:
    """Some rows of an array of embeddings."""

    embeddings: Embeddings  # (N, D) float32, float16 or uint8, may be memory-mapped
    rows: npt.NDArray[np.int64]  # (M,), ascending; fewer than 2^32

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, start: int, stop: int, device: torch.device) -> Tensor:
        """Return the points from ``start`` to ``stop`` - 1, (P, D) float32."""
        return torch.from_numpy(self.embeddings[self.rows[start:stop]]).to(device).to(torch.float32)


class Space:
    """The space in which distances are measured.

    Cosine compares directions. Euclidean compares offsets from the mean of ``source``, which changes no distance and
    keeps float32 from losing the small differences between vectors far from 0.
    """

    def __init__(self, metric: Distance, source: Points) -> None:
        self.metric = metric
        self._origin = torch.from_numpy(_mean(source)) if metric == "euclidean" else torch.zeros(())

    def place(self, points: Tensor) -> Tensor:
        """Return (N, D) float32 directions, where 0 stays 0, or offsets from the origin."""
        if self.metric == "cosine":
            lengths = torch.linalg.vector_norm(points, dim=1, keepdim=True)
            return points / torch.where(lengths > 0, lengths, 1)
        return points - self._origin.to(points.device)

    def nearness(self, targets: Tensor, sources: Tensor) -> Tensor:
        """Return (M, N) float32, larger is nearer, of placed points: t.s for cosine, t.s - |s|^2 / 2 for Euclidean."""
        if self.metric == "cosine":
            return targets @ sources.T
        return torch.addmm(sources.square().sum(1) / -2, targets, sources.T)

    def distance(self, targets: Tensor, nearness: Tensor) -> Tensor:
        """Return (M, K) float32: 1 - similarity, or sqrt(|t|^2 - 2 nearness); values below 0 by rounding become 0."""
        if self.metric == "cosine":
            return (1 - nearness).clamp(min=0)
        return (targets.square().sum(1, keepdim=True) - 2 * nearness).clamp(min=0).sqrt()


def _mean(points: Points) -> npt.NDArray[np.float32]:
    total = np.zeros(points.embeddings.shape[1])
    for start in range(0, len(points), BLOCK_ROWS):
        total += points.embeddings[points.rows[start : start + BLOCK_ROWS]].sum(0, dtype=np.float64)
    return (total / len(points)).astype(np.float32)


@dataclass(frozen=True)
class Neighbours:
    """The nearest sources of M targets, nearest first: (M, K) float32 distances and (M, K) int64 rows of the array."""

    distance: npt.NDArray[np.float32]
    row: npt.NDArray[np.int64]


def nearest(targets: Tensor, source: Points, space: Space, *, k: int) -> Neighbours:
    """Return the ``k`` nearest sources of each target; of equally near ones, those of the lowest rows.

    Nearness is a float32 inner product: points whose distances differ by its rounding may change places.

    Args:
        targets: (M, D) float32 on the device to compute on.
        source: at least ``k`` points.
        space: space in which distances are measured.
        k: number of neighbours.
    """
    assert 1 <= k <= len(source) < 2**ROW_BITS
    placed = space.place(targets)
    best = torch.full((len(targets), k), LOWEST, device=targets.device)
    for start, stop in _blocks(len(source), first=4 * k):
        block = space.place(source.take(start, stop, targets.device))
        best = _merge(best, space.nearness(placed, block), first=start)
    distance = space.distance(placed, _value(best))
    positions = 2**ROW_BITS - 1 - (best & (2**ROW_BITS - 1))
    return Neighbours(distance.cpu().numpy(), source.rows[positions.cpu().numpy()])


def _blocks(count: int, *, first: int) -> Iterator[tuple[int, int]]:
    """Yield blocks of doubling size: in the large ones, few points are nearer than the best so far."""
    start, size = 0, min(BLOCK_ROWS, first + -first % GROUP)
    while start < count:
        yield start, min(start + size, count)
        start, size = start + size, min(BLOCK_ROWS, 2 * size)


def _merge(best: Tensor, nearness: Tensor, *, first: int) -> Tensor:
    """Return the largest of (M, k) ``best`` keys, descending, and those of (M, N) points at positions from ``first``.

    Only points nearer than the last of the best can be among them. Equally near ones cannot: their rows are higher.
    """
    least = _value(best[:, -1])
    if lacking := -nearness.shape[1] % GROUP:  # F.pad copies even if nothing is lacking
        nearness = F.pad(nearness, (0, lacking), value=-torch.inf)
    groups = nearness.view(len(nearness), -1, GROUP)
    target, group = (groups.amax(2) > least[:, None]).nonzero(as_tuple=True)
    values = groups[target, group]
    pair, column = (values > least[target, None]).nonzero(as_tuple=True)
    keys = _keys(values[pair, column], first + group[pair] * GROUP + column)
    return torch.cat([best, _table(keys, target[pair], len(best))], dim=1).topk(best.shape[1], dim=1).values


def _table(keys: Tensor, row: Tensor, count: int) -> Tensor:
    """Return (``count``, widest) int64: each key in its row, given ascending, and LOWEST in the remaining places."""
    widths = torch.bincount(row, minlength=count)
    table = keys.new_full((count, int(widths.max())), LOWEST)
    table[row, torch.arange(len(row), device=row.device) - (widths.cumsum(0) - widths)[row]] = keys
    return table


def _keys(values: Tensor, positions: Tensor) -> Tensor:
    """Return int64 keys that sort as the float32 values do and, for equal ones, by descending position."""
    bits = (values + 0.0).view(torch.int32)  # adding 0 makes -0 a 0
    keys: Tensor = (_ordered(bits).to(torch.int64) << ROW_BITS) | (2**ROW_BITS - 1 - positions)
    return keys


def _value(keys: Tensor) -> Tensor:
    """Return the float32 value of each key; -inf for LOWEST."""
    values = _ordered((keys >> ROW_BITS).to(torch.int32)).view(torch.float32)
    return values.masked_fill(keys == LOWEST, -torch.inf)


def _ordered(bits: Tensor) -> Tensor:
    """Convert a float's bits to an int32 that sorts as the float does, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
