"""Which number of neighbours, metric, weighting and sources predict held-out scores best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from robustprune.scores.extrapolation.neighbour_settings import Distance, NeighbourSettings, Sources, Weighting

CHOOSING, MEASURED = slice(0, None, 2), slice(1, None, 2)  # of the held-out images

Scores = npt.NDArray[np.float32]  # (N,)


def predict(
    scores: npt.NDArray[np.floating[Any]], distance: npt.NDArray[np.float32], *, weighting: Weighting
) -> Scores:
    """Each target's score from those of its neighbours (Nieth et al. 2024, section 2).

    Args:
        scores: (M, K) scores of the neighbours.
        distance: (M, K) their distances, at least 0.
        weighting: mean; or distance, by 1 / distance, where neighbours at distance 0 count alone if there are any.

    Returns:
        (M,) float32.
    """
    if weighting == "mean":
        weights = np.ones(distance.shape)
    else:
        with np.errstate(divide="ignore"):
            weights = 1 / distance.astype(np.float64)
        same = np.isinf(weights)
        weights = np.where(same.any(1, keepdims=True), same, weights)
    predicted: Scores = ((weights * scores).sum(1) / weights.sum(1)).astype(np.float32)
    return predicted


@dataclass(frozen=True)
class Quality:
    """Quality of predicted scores.

    Attributes:
        mae: mean absolute error, in the score's unit.
        constant_mae: the same of a constant prediction (Nieth et al. 2024, Figure 1).
        spearman: rank correlation of predicted and true scores; None where either are all equal.
    """

    mae: float
    constant_mae: float
    spearman: float | None


def quality(predicted: Scores, true: Scores, *, constant: float) -> Quality:
    """Return how far ``predicted`` is from ``true``, beside the ``constant``."""
    exact = true.astype(np.float64)
    spearman = None
    if np.ptp(predicted) > 0 and np.ptp(true) > 0:
        ranks = [pd.Series(values).rank() for values in (predicted, true)]
        spearman = float(ranks[0].corr(ranks[1]))
    return Quality(
        mae=float(np.abs(predicted - exact).mean()),
        constant_mae=float(np.abs(constant - exact).mean()),
        spearman=spearman,
    )


DEFINITION = {"extrapolation.choice": 2, "extrapolation.regression": 1}


@dataclass(frozen=True)
class Found:
    """Distances and scores of the nearest sources of some targets, the nearest first.

    Attributes:
        distance: (M, K) float32.
        score: (M, K) float32.
    """

    distance: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]

    def first(self, k: int) -> Found:
        """The ``k`` nearest."""
        return Found(self.distance[:, :k], self.score[:, :k])


def merge(parts: Sequence[Found]) -> Found:
    """Return the neighbours in several sources as in one; of equally near ones, those of the earlier source."""
    distance = np.concatenate([part.distance for part in parts], axis=1)
    score = np.concatenate([part.score for part in parts], axis=1)
    order = np.argsort(distance, axis=1, kind="stable")
    return Found(np.take_along_axis(distance, order, 1), np.take_along_axis(score, order, 1))


@dataclass(frozen=True)
class Trial:
    """One combination of settings, and how well it predicts the held-out scores.

    Attributes:
        choosing_mae: its mean absolute error on the half of the held-out images that the best is chosen by.
        quality: how well it predicts the other half, which the choice has not seen.
    """

    sources: Sources
    metric: Distance
    k: int
    weighting: Weighting
    choosing_mae: float
    quality: Quality


def trials(
    found: Mapping[tuple[Distance, Sources], Found], true: Scores, settings: NeighbourSettings, *, constant: float
) -> Iterator[Trial]:
    """Every combination of the settings; one search with the largest k serves all.

    Every other held-out image is for choosing, the rest for measuring: the least of many errors is too small.

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
                choosing, measured = (
                    quality(predicted[half], true[half], constant=constant) for half in (CHOOSING, MEASURED)
                )
                yield Trial(sources, metric, k, weighting, choosing.mae, measured)


def best(tried: Sequence[Trial]) -> Trial:
    """The one of lowest mean absolute error where it is chosen by, the first of equal ones."""
    return min(tried, key=lambda trial: trial.choosing_mae)
