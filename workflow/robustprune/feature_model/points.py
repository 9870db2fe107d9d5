"""Draws points of the model and prunes them by the loss of the robust classifier.

A point is of D_robust or D_fragile. Its robust feature is the label or its negative; its fragile features are normal
around eta times the label. A point and its mirror image mean the same to a classifier without a bias, so points are
given as y x.
"""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from robustprune.settings.feature_model import FeatureModelSettings

DEFINITION = 1

Floats = npt.NDArray[np.float64]
End = Literal["high_loss", "low_loss"]


class Points(NamedTuple):
    """Points of the model.

    Attributes:
        robust: (N,) bool, whether a point is of D_robust.
        features: (N, 1 + d) float64, y x; the robust feature first.
    """

    robust: npt.NDArray[np.bool_]
    features: Floats

    def at(self, rows: npt.NDArray[np.int64]) -> "Points":
        """Some of them."""
        return Points(self.robust[rows], self.features[rows])


def draw_points(random: np.random.Generator, count: int, model: FeatureModelSettings) -> Points:
    """``count`` points (Kaufmann et al. v2, Eqs. 2 and 3)."""
    robust = random.random(count) < model.robust_share
    agreement = np.where(robust, model.robust_agreement, model.fragile_agreement)
    first = np.where(random.random(count) < agreement, 1.0, -1.0)
    fragile = random.normal(model.mean, 1, size=(count, model.fragile_features))
    return Points(robust, np.column_stack([first, fragile]))


def prune(random: np.random.Generator, points: Points, share: float, end: End) -> Points:
    """What is left without a share of the points, those of the highest or lowest loss (y x_1 - 1)^2; ties by lot."""
    loss = (points.features[:, 0] - 1) ** 2
    shuffled = random.permutation(len(loss))
    ordered = shuffled[np.argsort(loss[shuffled] if end == "low_loss" else -loss[shuffled], kind="stable")]
    return points.at(np.sort(ordered[round(share * len(loss)) :]))


def count_right(features: Floats, weights: Floats, epsilon: float) -> int:
    """How many points sign(w.x) has right after the worst perturbation, -epsilon sign(w) on y x."""
    return int((features @ weights - epsilon * np.abs(weights).sum() > 0).sum())
