"""Which images a step sees: real ones without replacement, synthetic ones with."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustprune.core.randomness import generator

if TYPE_CHECKING:
    from robustprune.training.recipes.base import Recipe
    from robustprune.training.schedules import Position
    from robustprune.training.trainset import Stratum

DEFINITION = {"training.sampler": 2}
ALL_EPOCHS = -1  # in place of an epoch's number, where permutations are not of an epoch


class EpochSampler:
    """Draws positions in the lists of kept images; what a step draws depends on the seed and its position alone.

    Args:
        real: number of real images kept.
        synthetic: the strata of the synthetic images kept; none where there are none.
        settings: batch size, share of synthetic images, and what makes an epoch.
        seed: the stage's seed.
    """

    def __init__(self, *, real: int, synthetic: Sequence[Stratum], settings: Recipe, seed: int) -> None:
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
        """(real images of the step,) int64: permutations, read on from step to step."""
        size = self.batch_size(position)
        whole_training = self.settings.permutation == "training"
        step, epoch = (position.number, ALL_EPOCHS) if whole_training else (position.step, position.epoch)
        first = step * (self.settings.batch_size - self.settings.synthetic_in_batch)
        end = first + size - self.settings.synthetic_among(size)
        places = torch.arange(first, end)
        rounds = places // self.real
        numbers = range(first // self.real, (end - 1) // self.real + 1)
        return torch.cat([self._permutation(epoch, r)[places[rounds == r] % self.real] for r in numbers])

    def synthetic_positions(self, position: Position) -> Tensor:
        """(synthetic images of the step,) int64: drawn uniformly within each stratum, with replacement."""
        source = generator(self.seed, "synthetic", position.number)
        sizes = stratum_sizes(self.synthetic, self.settings.synthetic_among(self.batch_size(position)))
        drawn, first = [], 0
        for stratum, size in zip(self.synthetic, sizes, strict=True):
            drawn.append(first + torch.randint(stratum.images, (size,), generator=source))
            first += stratum.images
        return torch.cat(drawn)

    def _draw_permutation(self, epoch: int, number: int) -> Tensor:
        return torch.randperm(self.real, generator=generator(self.seed, "permutation", epoch, number))


def stratum_sizes(strata: Sequence[Stratum], images: int) -> list[int]:
    """Return how many of so many images of a batch are of each stratum: its share, rounded so that the sum is right.

    Shares are rounded down; those with the largest remainders get one more, of equals the first.
    """
    if len(strata) == 1:
        return [images]
    exact = [images * (stratum.share or Fraction(0)) for stratum in strata]
    sizes = [int(size) for size in exact]
    by_remainder = sorted(range(len(strata)), key=lambda place: sizes[place] - exact[place])
    for place in by_remainder[: images - sum(sizes)]:
        sizes[place] += 1
    return sizes
