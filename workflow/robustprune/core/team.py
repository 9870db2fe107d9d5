"""What the processes that train one model do together: share each batch, and add up what they find.

Each of N processes has the whole model and attacks every N-th image of the batch; gradients are added up before the
optimiser's step, so all of them keep the same weights.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

DEFINITION = {"training.team": 1}


@dataclass(frozen=True)
class Team:
    """The processes, as one of them sees them; a process alone shares nothing and waits for nobody.

    Attributes:
        rank: this process's number, from 0. Number 0 leads: it alone writes files and heeds signals.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """True if this process writes what all have made."""
        return self.rank == 0

    @property
    def rows(self) -> slice:
        """The rows of a batch that are this process's."""
        return slice(self.rank, None, self.size)

    def share(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Return the ``rows`` of a batch in parts, one after the other, in as many parts."""
        first, shares = self.rank, []
        for part in parts:
            shares.append(part[first :: self.size])
            first = (first - len(part)) % self.size
        return shares

    def total(self, value: Tensor) -> Tensor:
        """The sum of all processes' values, element by element; gradients flow back to all of them."""
        summed: Tensor = value if self.size == 1 else _Total.apply(value)
        return summed

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor, all of one dtype, by the sum of all processes' tensors, in one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, summed in zip(tensors, torch.split(flat, sizes), strict=True):
            tensor.copy_(summed.view_as(tensor))

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The others do the block when the leader has done it, so that they find the files it wrote."""
        if self.size > 1 and not self.leads:
            distributed.barrier()
        yield
        if self.size > 1 and self.leads:
            distributed.barrier()


class _Total(torch.autograd.Function):
    """A sum over processes: each value counts in every process's sum, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(_context: Any, value: Tensor) -> Tensor:
        summed = value.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed
