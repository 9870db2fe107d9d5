"""What is told in one number of scores, of two scores of the same images, and of two choices among the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import stats

from robustprune.experiments.claims import Judged, Verdict, judge_relation, judged
from robustprune.experiments.figures.of_scores import MeasureCheck, MeasureClaim, MeasureName

if TYPE_CHECKING:
    from robustprune.experiments.cells import Cell

DEFINITION = {"figures.claims": 2, "figures.measures": 2}

Scores = npt.NDArray[np.float32]
Measured = Mapping[MeasureName, float]

LOW = 0.1  # of the highest score of all series

DECIMALS: Mapping[MeasureName, int] = {"median": 5, "mae": 5}
USUAL_DECIMALS = 3
"""Digits behind the point that are worth telling."""

WORDS: Mapping[MeasureName, str] = {
    "median": "median",
    "low": "share below a tenth of the highest",
    "tail": "tail ratio, (99 % - 50 %) / (50 % - 1 %)",
    "censored": "share not finite",
    "distance": "largest difference of cumulative shares to the first's",
    "rank_correlation": "rank correlation",
    "correlation": "correlation",
    "slope": "slope of the straight line through the points",
    "spread": "standard deviation over that of the truth",
    "mae": "mean absolute error",
    "mae_ratio": "mean absolute error over that of the mean score",
    "correlation_low": "correlation with slow movements",
    "correlation_high": "correlation with fast movements",
    "fast_over_slow": "correlation with fast movements, minus that with slow ones",
    "same_decision": "share of the images with the same decision",
    "of_first": "share of the first's dropped images that the second drops, too",
    "jaccard": "dropped by both, of those dropped by either",
    "of_all": "dropped by both, of all images",
}


def of_scores(scores: Scores, first: Scores, *, highest: float, same_images: bool) -> dict[MeasureName, float]:
    """Measures of a score, beside the first one of the figure.

    Args:
        scores: (N,), infinite where nothing was found, not everywhere.
        first: (M,).
        highest: the highest finite score of all series.
        same_images: whether both are of the same images, so that they can be correlated; not where one is constant.
    """
    finite = scores[np.isfinite(scores)]
    low, middle, high = np.quantile(finite, [0.01, 0.5, 0.99]).tolist()
    found: dict[MeasureName, float] = {"median": middle, "censored": 1 - len(finite) / len(scores)}
    if finite.min() >= 0:
        found["low"] = float((finite < LOW * highest).mean())
    if middle > low:
        found["tail"] = (high - middle) / (middle - low)
    if first is not scores:
        found["distance"] = largest_distance(scores, first)
        if same_images and min(np.ptp(scores), np.ptp(first)) > 0:
            found["rank_correlation"] = float(stats.spearmanr(first, scores).statistic)
    return found


def largest_distance(one: Scores, other: Scores) -> float:
    """The statistic of Kolmogorov and Smirnov: the largest difference of two cumulative shares; infinite ones count."""
    places = np.unique(np.concatenate([one, other]))
    shares = [np.searchsorted(np.sort(values), places, side="right") / len(values) for values in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def of_prediction(true: Scores, predicted: Scores) -> dict[MeasureName, float]:
    """How close (N,) predicted scores are to the true ones of the same images, all finite."""
    exact, guess = true.astype(np.float64), predicted.astype(np.float64)
    found: dict[MeasureName, float] = {"mae": float(np.abs(guess - exact).mean())}
    constant = float(np.abs(exact - exact.mean()).mean())
    if constant > 0:
        fit = stats.linregress(exact, guess)
        found |= {
            "slope": float(fit.slope),
            "spread": float(guess.std() / exact.std()),
            "mae_ratio": found["mae"] / constant,
        }
        if guess.std() > 0:
            found["correlation"] = float(fit.rvalue)
            found["rank_correlation"] = float(stats.spearmanr(exact, guess).statistic)
    return found


def judge_measures(claims: Sequence[MeasureClaim], measured: Mapping[str, Measured]) -> list[Judged]:
    """Each claim of the measures of some series, with what was found, and whether this run agrees."""
    return [judged(claim.claim, [_of_measures(check, measured) for check in claim.checks]) for claim in claims]


def measures_in_words(measured: Measured) -> str:
    """All measures of a series."""
    return ", ".join(
        f"{WORDS[name]} {value:.{DECIMALS.get(name, USUAL_DECIMALS)}f}" for name, value in measured.items()
    )


def _of_measures(check: MeasureCheck, measured: Mapping[str, Measured]) -> tuple[str, Verdict]:
    cell: Cell = measured[check.row].get(check.measure)
    other: Cell = measured[check.other].get(check.measure) if isinstance(check.other, str) else float(check.other)
    words = f"{WORDS[check.measure]} of {check.row}", str(check.other)
    return judge_relation(check, words, cell, other, decimals=DECIMALS.get(check.measure, USUAL_DECIMALS))
