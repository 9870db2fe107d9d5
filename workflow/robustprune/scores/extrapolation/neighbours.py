"""The exact k nearest neighbours of many points among many, by blocks of inner products, on a CPU or a GPU."""

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
    from robustprune.scores.extrapolation.neighbour_settings import Distance

DEFINITION = {"extrapolation.neighbours": 1}

BLOCK_ROWS = 8192  # points compared with targets at once
GROUP = 64  # inner products of which at first only the largest is looked at
ROW_BITS = 32  # of a key
LOWEST = torch.iinfo(torch.int64).min

Embeddings = npt.NDArray[np.floating[Any] | np.uint8]  # (N, D)


@dataclass(frozen=True)
class Points:
    """Some rows of an array of embeddings.

    Attributes:
        embeddings: (N, D) float32, float16 or uint8, perhaps memory-mapped.
        rows: (M,) int64, ascending; fewer than 2^32.
    """

    embeddings: Embeddings
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, start: int, stop: int, device: torch.device) -> Tensor:
        """(P, D) float32: the points from ``start`` to ``stop`` - 1, or the last one."""
        return torch.from_numpy(self.embeddings[self.rows[start:stop]]).to(device).to(torch.float32)


class Space:
    """A space in which nearness is measured.

    Cosine compares directions. Euclidean compares offsets from the mean of the sources, which changes no distance and
    keeps float32 from losing the small differences between vectors far from 0.

    Args:
        metric: cosine or euclidean.
        source: the points whose mean is the origin.
    """

    def __init__(self, metric: Distance, source: Points) -> None:
        self.metric = metric
        self._origin = torch.from_numpy(_mean(source)) if metric == "euclidean" else torch.zeros(())

    def place(self, points: Tensor) -> Tensor:
        """(N, D) float32 as it is compared: directions, where 0 stays 0, or offsets from the origin."""
        if self.metric == "cosine":
            lengths = torch.linalg.vector_norm(points, dim=1, keepdim=True)
            return points / torch.where(lengths > 0, lengths, 1)
        return points - self._origin.to(points.device)

    def nearness(self, targets: Tensor, sources: Tensor) -> Tensor:
        """(M, N) float32, larger is nearer: of placed points, t.s for cosine, t.s - |s|^2 / 2 for Euclidean."""
        if self.metric == "cosine":
            return targets @ sources.T
        return torch.addmm(sources.square().sum(1) / -2, targets, sources.T)

    def distance(self, targets: Tensor, nearness: Tensor) -> Tensor:
        """(M, K) float32: 1 - similarity, or sqrt(|t|^2 - 2 nearness), rounding below 0 cut off."""
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
    """The nearest sources of some targets, the nearest first.

    Attributes:
        distance: (M, K) float32.
        row: (M, K) int64 rows of the sources' array.
    """

    distance: npt.NDArray[np.float32]
    row: npt.NDArray[np.int64]


def nearest(targets: Tensor, source: Points, space: Space, *, k: int) -> Neighbours:
    """The ``k`` nearest sources of each target; of equally near ones, those of the lowest rows.

    Nearness is a float32 inner product: points whose distances differ by its rounding may change places.

    Args:
        targets: (M, D) float32 on the device to compute on.
        source: at least ``k`` points.
        space: in which to measure.
        k: number of neighbours.
    """
    assert 1 <= k <= len(source) < 2**ROW_BITS
    placed = space.place(targets)
    best = torch.full((len(targets), k), LOWEST, device=targets.device)
    for start, stop in _blocks(len(source), first=4 * k):
        block = space.place(source.take(start, stop, targets.device))
        best = _merge(best, space.nearness(placed, block), first=start)
    distance = space.distance(placed, _value(best))
    return Neighbours(distance.cpu().numpy(), source.rows[_position(best).cpu().numpy()])


def _blocks(count: int, *, first: int) -> Iterator[tuple[int, int]]:
    """Blocks that double: when the large ones come, few points are nearer than those found already."""
    start, size = 0, min(BLOCK_ROWS, first + -first % GROUP)
    while start < count:
        yield start, min(start + size, count)
        start, size = start + size, min(BLOCK_ROWS, 2 * size)


def _merge(best: Tensor, nearness: Tensor, *, first: int) -> Tensor:
    """The largest keys among (M, k) ``best``, descending, and those of (M, N) points at positions from ``first``.

    Only what is nearer than the last of the best can be among them. An equally near one cannot: its row is higher.
    """
    least = _value(best[:, -1])
    groups = _whole_groups(nearness).view(len(nearness), -1, GROUP)
    target, group = (groups.amax(2) > least[:, None]).nonzero(as_tuple=True)
    values = groups[target, group]
    pair, column = (values > least[target, None]).nonzero(as_tuple=True)
    keys = _keys(values[pair, column], first + group[pair] * GROUP + column)
    return torch.cat([best, _table(keys, target[pair], len(best))], dim=1).topk(best.shape[1], dim=1).values


def _whole_groups(nearness: Tensor) -> Tensor:
    """The same with columns of -inf to a multiple of GROUP."""
    lacking = -nearness.shape[1] % GROUP
    return F.pad(nearness, (0, lacking), value=-torch.inf) if lacking else nearness


def _table(keys: Tensor, row: Tensor, count: int) -> Tensor:
    """(``count``, widest) int64: each key in its row, which rise, and LOWEST where a row has fewer."""
    widths = torch.bincount(row, minlength=count)
    table = keys.new_full((count, int(widths.max())), LOWEST)
    table[row, torch.arange(len(row), device=row.device) - (widths.cumsum(0) - widths)[row]] = keys
    return table


def _keys(values: Tensor, positions: Tensor) -> Tensor:
    """Int64 that sort as the float32 values do and, where these are equal, against the positions."""
    bits = (values + 0.0).view(torch.int32)  # adding 0 makes -0 a 0
    keys: Tensor = (_ordered(bits).to(torch.int64) << ROW_BITS) | (2**ROW_BITS - 1 - positions)
    return keys


def _value(keys: Tensor) -> Tensor:
    """The float32 in the keys; -inf for LOWEST."""
    values = _ordered((keys >> ROW_BITS).to(torch.int32)).view(torch.float32)
    return values.masked_fill(keys == LOWEST, -torch.inf)


def _position(keys: Tensor) -> Tensor:
    positions: Tensor = 2**ROW_BITS - 1 - (keys & (2**ROW_BITS - 1))
    return positions


def _ordered(bits: Tensor) -> Tensor:
    """A float's bits as an int32 that sorts as the float does, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
