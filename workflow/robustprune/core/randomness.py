"""Every random draw has its own seed: (stage seed, purpose, sample id or step).

No generator's state outlives a step, so nothing has to be saved for a resumed run to draw the same numbers, and no
number depends on batch size, order or how many jobs share the work.
"""

import torch
from torch import Tensor

from robustprune.core.seeds import derive_seed as derive_seed

DEFINITION = {"randomness": 1}


def generator(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on ``device`` for one purpose, e.g. ``generator(seed, "batch", step)``.

    PyTorch seeds a generator on the CPU by 32 of the bits, so among a hundred thousand some two draw the same.
    """
    return torch.Generator(device).manual_seed(derive_seed(seed, *purpose))


class BatchNoise:
    """Draws for a whole batch, of which this process takes its rows: the same numbers however many share the batch."""

    def __init__(self, source: torch.Generator, batch_size: int, rows: slice = slice(None)) -> None:
        self._source, self._batch_size, self._rows = source, batch_size, rows

    def uniform(self, *shape: int) -> Tensor:
        """(rows, *shape) float32, uniform on [-1, 1)."""
        whole = torch.rand(self._batch_size, *shape, generator=self._source, device=self._source.device)
        return whole[self._rows] * 2 - 1

    def normal(self, *shape: int) -> Tensor:
        """(rows, *shape) float32, standard normal."""
        return torch.randn(self._batch_size, *shape, generator=self._source, device=self._source.device)[self._rows]

    def integers(self, below: int) -> Tensor:
        """(rows,) int64, uniform on 0 ... ``below`` - 1."""
        whole = torch.randint(below, (self._batch_size,), generator=self._source, device=self._source.device)
        return whole[self._rows]
