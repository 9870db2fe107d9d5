"""k-nearest-neighbour regression of scores, and the choice of its settings by the error on held-out images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from robustprune.scores.extrapolated import Distance, NeighbourSettings, Sources, Weighting

DEFINITION = {"extrapolation.choice": 2, "extrapolation.regression": 1}

CHOOSING, MEASURED = slice(0, None, 2), slice(1, None, 2)  # of the held-out images

Scores = npt.NDArray[np.float32]  # (N,)


@dataclass(frozen=True)
class Quality:
    """Quality of predicted scores."""

    mae: float  # mean absolute error, in the score's unit
    constant_mae: float  # the same for a constant prediction (Nieth et al. 2024, Figure 1)
    spearman: float | None  # rank correlation of predicted and true scores; None if either are all equal


@dataclass(frozen=True)
class Trial:
    """A combination of settings and the quality of its predictions on the held-out images."""

    sources: Sources
    metric: Distance
    k: int
    weighting: Weighting
    choosing_mae: float  # mean absolute error on the half of the images that the best is chosen by
    quality: Quality  # on the other half, which the choice has not seen

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return {"sources": self.sources, "metric": self.metric, "k": self.k, "weighting": self.weighting}


@dataclass(frozen=True)
class ScoredNeighbours:
    """Distances and scores of the nearest neighbours of M targets, nearest first; both (M, K) float32."""

    distance: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]

    def first(self, k: int) -> ScoredNeighbours:
        """Return the ``k`` nearest."""
        return ScoredNeighbours(self.distance[:, :k], self.score[:, :k])


def merge(parts: Sequence[ScoredNeighbours]) -> ScoredNeighbours:
    """Return the neighbours in several sources as in one; of equally near ones, those of the earlier source first."""
    distance = np.concatenate([part.distance for part in parts], axis=1)
    score = np.concatenate([part.score for part in parts], axis=1)
    order = np.argsort(distance, axis=1, kind="stable")
    return ScoredNeighbours(np.take_along_axis(distance, order, 1), np.take_along_axis(score, order, 1))


def predict(
    scores: npt.NDArray[np.floating[Any]], distance: npt.NDArray[np.float32], *, weighting: Weighting
) -> Scores:
    """Return each target's score from those of its neighbours, (M,) float32 (Nieth et al. 2024, section 2).

    Args:
        scores: (M, K) scores of the neighbours.
        distance: (M, K) their distances, at least 0.
        weighting: mean; or distance, by 1 / distance, with neighbours at distance 0 alone if there are any.
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


def quality(predicted: Scores, true: Scores, *, constant: float) -> Quality:
    """Return the quality of ``predicted`` scores, next to that of a ``constant``."""
    exact = true.astype(np.float64)
    spearman = None
    if np.ptp(predicted) > 0 and np.ptp(true) > 0:
        spearman = float(pd.Series(predicted).rank().corr(pd.Series(true).rank()))
    return Quality(float(np.abs(predicted - exact).mean()), float(np.abs(constant - exact).mean()), spearman)


def trials(
    metric: Distance,
    sources: Sources,
    neighbours: ScoredNeighbours,
    true: Scores,
    settings: NeighbourSettings,
    *,
    constant: float,
) -> Iterator[Trial]:
    """Yield a trial for every k and weighting; ``neighbours`` are at least the largest k of each held-out image.

    ``true`` are the (M,) scores of the held-out images, ``constant`` is the constant prediction to compare with. Every
    other image is for choosing, the rest for measuring: the least of many errors is too small.
    """
    for k in settings.k:
        nearest = neighbours.first(k)
        for weighting in settings.weighting:
            predicted = predict(nearest.score, nearest.distance, weighting=weighting)
            choosing, measured = (
                quality(predicted[half], true[half], constant=constant) for half in (CHOOSING, MEASURED)
            )
            yield Trial(sources, metric, k, weighting, choosing.mae, measured)
