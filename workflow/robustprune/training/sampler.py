"""Which images a step sees: real ones without replacement, synthetic ones with; facts 1.4."""

from functools import lru_cache

import torch
from torch import Tensor

from robustprune.randomness import generator

DEFINITION = 1


class EpochSampler:
    """Draws positions in the lists of kept images; what a step draws depends on the seed and the step alone.

    Args:
        real: number of real images kept.
        synthetic: number of synthetic images kept; 0 where there are none.
        real_count: real images in a batch.
        synthetic_count: synthetic images in a batch.
        steps_per_epoch: a new epoch starts a new permutation of the real images.
        seed: the stage's seed.
    """

    def __init__(
        self, *, real: int, synthetic: int, real_count: int, synthetic_count: int, steps_per_epoch: int, seed: int
    ) -> None:
        self.real, self.synthetic, self.seed, self.steps_per_epoch = real, synthetic, seed, steps_per_epoch
        self.real_count, self.synthetic_count = real_count, synthetic_count
        self._permutation = lru_cache(maxsize=2)(self._draw_permutation)

    def real_positions(self, step: int) -> Tensor:
        """(real_count,) int64: the epoch's permutations, read on from step to step."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        places = torch.arange(self.real_count) + step_in_epoch * self.real_count
        rounds = places // self.real
        numbers = range(int(rounds[0]), int(rounds[-1]) + 1)
        return torch.cat([self._permutation(epoch, r)[places[rounds == r] % self.real] for r in numbers])

    def synthetic_positions(self, step: int) -> Tensor:
        """(synthetic_count,) int64: drawn uniformly, with replacement."""
        source = generator(self.seed, "synthetic", step)
        return torch.randint(self.synthetic, (self.synthetic_count,), generator=source)

    def _draw_permutation(self, epoch: int, number: int) -> Tensor:
        return torch.randperm(self.real, generator=generator(self.seed, "permutation", epoch, number))
