"""Which images a step sees: real ones without replacement, synthetic ones with; facts 1.4."""

from functools import lru_cache

import torch
from torch import Tensor

from robustprune.randomness import generator
from robustprune.settings import Recipe
from robustprune.training.clock import Position

DEFINITION = 2


class EpochSampler:
    """Draws positions in the lists of kept images; what a step draws depends on the seed and its position alone.

    Args:
        real: number of real images kept.
        synthetic: number of synthetic images kept; 0 where there are none.
        settings: batch size, share of synthetic images, and what makes an epoch.
        seed: the stage's seed.
    """

    def __init__(self, *, real: int, synthetic: int, settings: Recipe, seed: int) -> None:
        self.real, self.synthetic, self.settings, self.seed = real, synthetic, settings, seed
        self._permutation = lru_cache(maxsize=2)(self._draw_permutation)

    def batch_size(self, position: Position) -> int:
        """Images of a step; where an epoch is one pass, its last step has what is left."""
        full = self.settings.batch_size
        if self.settings.epoch_images is None and position.ends_epoch:
            return self.real - position.step * full
        return full

    def positions(self, position: Position) -> list[Tensor]:
        """The positions of a step's images in the lists of each pool, the real one first."""
        real = self.real_positions(position)
        return [real, self.synthetic_positions(position)] if self.settings.synthetic_in_batch else [real]

    def real_positions(self, position: Position) -> Tensor:
        """(real images of the step,) int64: the epoch's permutations, read on from step to step."""
        size = self.batch_size(position)
        first = position.step * (self.settings.batch_size - self.settings.synthetic_in_batch)
        end = first + size - self.settings.synthetic_among(size)
        places = torch.arange(first, end)
        rounds = places // self.real
        numbers = range(first // self.real, (end - 1) // self.real + 1)
        return torch.cat([self._permutation(position.epoch, r)[places[rounds == r] % self.real] for r in numbers])

    def synthetic_positions(self, position: Position) -> Tensor:
        """(synthetic images of the step,) int64: drawn uniformly, with replacement."""
        source = generator(self.seed, "synthetic", position.number)
        count = self.settings.synthetic_among(self.batch_size(position))
        return torch.randint(self.synthetic, (count,), generator=source)

    def _draw_permutation(self, epoch: int, number: int) -> Tensor:
        return torch.randperm(self.real, generator=generator(self.seed, "permutation", epoch, number))
