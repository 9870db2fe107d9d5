"""Formulas of the model of robust and fragile features (Kaufmann et al. v2, Appendix C).

Accuracies are in closed form; a trained classifier is given by two numbers that minimise an expected loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from robustprune.experiments.studies.feature_model import FeatureModelSettings

DEFINITION = {"feature_model.formulas": 2}

Floats = npt.NDArray[np.float64]
End = Literal["high_loss", "low_loss"]

STRONG = 2.0  # size of the attack of Eq. 5, in units of eta
NODES = 80  # of Gauss and Hermite; the mean loss over a normal feature has converged to ten digits at half as many


def robust_classifier(model: FeatureModelSettings) -> Floats:
    """Return (1 + d,) weights that use the robust feature only."""
    return np.append(1.0, np.zeros(model.fragile_features))


def fragile_classifier(model: FeatureModelSettings) -> Floats:
    """Return (1 + d,) weights that use the fragile features only, all with the same weight."""
    return np.append(0.0, np.full(model.fragile_features, 1 / model.fragile_features))


def accuracy(weights: Floats, epsilon: float, model: FeatureModelSettings) -> float:
    """Return the accuracy of a linear classifier under attack.

    Given the robust feature, y w.x is normal, of mean +-w_1 + eta sum(w_i) and variance sum(w_i^2) over the fragile
    features; the attack takes epsilon ||w||_1 off (Eq. 5 is the case w_1 = 0).
    """
    from scipy import stats

    first, fragile = weights[0], weights[1:]
    shift = model.mean * fragile.sum() - epsilon * np.abs(weights).sum()
    spread = float(np.linalg.norm(fragile))

    def right(margin: float) -> float:
        return float(stats.norm.cdf(margin / spread)) if spread > 0 else float(margin > 0)

    return model.agreement * right(first + shift) + (1 - model.agreement) * right(-first + shift)


def robust_share_left(share: float, end: End, model: FeatureModelSettings) -> float:
    """Return the share of D_robust after dropping a share of the points, of highest or lowest loss."""
    return model.robust_share * _left(share, end, model, model.robust_agreement) / (1 - share)


def agreement_left(share: float, end: End, model: FeatureModelSettings) -> float:
    """Return the share of the points left whose robust feature has the sign of the label."""
    agreement = model.agreement
    gone = min(share, agreement) if end == "low_loss" else max(0.0, share - (1 - agreement))
    return (agreement - gone) / (1 - share)


def _left(share: float, end: End, model: FeatureModelSettings, agreement: float) -> float:
    """Return the share that stays of points whose robust feature has the label's sign with probability ``agreement``.

    There are two losses, 0 and 4; the points of one go first, the others after them.
    """
    first, others = (agreement, 1 - agreement) if end == "low_loss" else (1 - agreement, agreement)
    all_first = model.agreement if end == "low_loss" else 1 - model.agreement
    gone = min(share, all_first) / all_first
    gone_of_others = max(0.0, share - all_first) / (1 - all_first)
    return first * (1 - gone) + others * (1 - gone_of_others)


def trained_classifier(agreement: float, epsilon: float, model: FeatureModelSettings) -> Floats:
    """Return the weights that minimise the expected logistic loss under attack, for points of some agreement.

    The fragile features have one distribution, so that they have one weight; their sum is normal, and the expectation
    an integral over it. Where the robust feature is always right the infimum is reached along the robust classifier
    only; where it is more often wrong than right, it is learnt with the other sign.
    """
    from scipy import optimize, special

    if agreement < 1 / 2:
        turned = trained_classifier(1 - agreement, epsilon, model)
        return np.append(-turned[0], turned[1:])
    if agreement == 1:
        return robust_classifier(model)
    nodes, mass = np.polynomial.hermite_e.hermegauss(NODES)
    mass = mass / mass.sum()
    root = np.sqrt(model.fragile_features)

    def expected_loss(halves: Floats) -> float:
        first, fragile = halves  # of the robust feature; of the fragile features' normalised sum
        fragile_part = fragile * (root * (model.mean - epsilon) + nodes)
        losses = [-special.log_expit(sign * first - epsilon * first + fragile_part) @ mass for sign in (1, -1)]
        return float(agreement * losses[0] + (1 - agreement) * losses[1])

    solution = optimize.minimize(expected_loss, [1.0, 1.0], bounds=[(0, None)] * 2, method="L-BFGS-B", tol=1e-12)
    first, fragile = solution.x
    return np.append(first, np.full(model.fragile_features, fragile / root))
