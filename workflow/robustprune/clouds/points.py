"""Points of two overlapping clouds, as images of two pixels, so that what attacks and measures images does so here."""

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor

from robustprune.settings.clouds import CloudSettings

DEFINITION = 1

Floats = npt.NDArray[np.float64]


def draw_clouds(random: np.random.Generator, count: int, settings: CloudSettings) -> tuple[Tensor, Tensor]:
    """(N, 1, 1, 2) float32 points in the unit square and (N,) int64 labels, in turn 0 and 1.

    The clouds are normal, side by side around the middle; what falls outside of the square is drawn again.
    """
    labels = np.arange(count) % 2
    means = np.array([0.5 - settings.distance / 2, 0.5 + settings.distance / 2])
    first = _normal(random, means[labels], settings.spread)
    second = _normal(random, np.full(count, 0.5), settings.spread)
    points = np.column_stack([first, second]).astype(np.float32)
    return torch.from_numpy(points).reshape(count, 1, 1, 2), torch.from_numpy(labels)


def _normal(random: np.random.Generator, means: Floats, spread: float) -> Floats:
    """One normal number around each mean, given that it is in [0, 1]."""
    low, high = stats.norm.cdf((0 - means) / spread), stats.norm.cdf((1 - means) / spread)
    drawn: Floats = np.clip(means + spread * stats.norm.ppf(random.uniform(low, high)), 0, 1)
    return drawn


def best_prediction(points: Tensor) -> Tensor:
    """(N,) int64: the likelier class, which is the nearer cloud: no classifier is right more often.

    The straight line between the clouds is also best against an attack that is as large everywhere.
    """
    return (points[:, 0, 0, 0] > 0.5).long()
