"""From neighbours' scores to a score, and how far off such scores are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from robustprune.settings import Weighting

DEFINITION = 1

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
    """How well scores are predicted.

    Attributes:
        mae: mean absolute error, in the score's unit.
        constant_mae: the same of a constant prediction (Nieth et al. 2024, Figure 1).
        spearman: rank correlation of predicted and true scores; None where either are all equal.
    """

    mae: float
    constant_mae: float
    spearman: float | None


def quality(predicted: Scores, true: Scores, *, constant: float) -> Quality:
    """How far ``predicted`` is from ``true``, beside the ``constant``."""
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
