"""Which number of neighbours, metric, weighting and sources predict held-out scores best."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustprune.extrapolation.regression import Quality, Scores, predict, quality
from robustprune.settings import Metric, NeighbourSettings, Sources, Weighting

DEFINITION = 1


@dataclass(frozen=True)
class Found:
    """Distances and scores of the nearest sources of some targets, the nearest first.

    Attributes:
        distance: (M, K) float32.
        score: (M, K) float32.
    """

    distance: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]

    def first(self, k: int) -> "Found":
        """The ``k`` nearest."""
        return Found(self.distance[:, :k], self.score[:, :k])


def merge(parts: Sequence[Found]) -> Found:
    """What was found in several sources as if they were one; of equally near ones, those of the earlier source."""
    distance = np.concatenate([part.distance for part in parts], axis=1)
    score = np.concatenate([part.score for part in parts], axis=1)
    order = np.argsort(distance, axis=1, kind="stable")
    return Found(np.take_along_axis(distance, order, 1), np.take_along_axis(score, order, 1))


@dataclass(frozen=True)
class Trial:
    """One combination of settings, and how well it predicts the held-out scores."""

    sources: Sources
    metric: Metric
    k: int
    weighting: Weighting
    quality: Quality


def trials(
    found: Mapping[tuple[Metric, Sources], Found], true: Scores, settings: NeighbourSettings, *, constant: float
) -> Iterator[Trial]:
    """Every combination of the settings; one search with the largest k serves all.

    Args:
        found: the neighbours of the held-out images, at least the largest k, for each metric and choice of sources.
        true: (M,) their scores.
        settings: what is tried.
        constant: the constant prediction that stands beside.
    """
    for (metric, sources), neighbours in found.items():
        for k in settings.k:
            nearest = neighbours.first(k)
            for weighting in settings.weighting:
                predicted = predict(nearest.score, nearest.distance, weighting=weighting)
                yield Trial(sources, metric, k, weighting, quality(predicted, true, constant=constant))


def best(tried: Sequence[Trial]) -> Trial:
    """The one of lowest mean absolute error, the first of equal ones."""
    return min(tried, key=lambda trial: trial.quality.mae)
