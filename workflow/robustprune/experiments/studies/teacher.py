"""A teacher perceptron: which samples pruning keeps, and how many an attack mislabels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import stats

if TYPE_CHECKING:
    from robustprune.experiments.studies.settings import PerceptronCurve

DEFINITION = {"perceptron.teacher": 1}

Floats = npt.NDArray[np.float64]


def draw_samples(
    random: np.random.Generator, count: int, curve: PerceptronCurve, *, features: int, scale: float, floor: float
) -> Floats:
    """``count`` samples that are left after pruning.

    Args:
        random: where the draws come from.
        count: samples that are kept.
        curve: which end is pruned, and what share of the samples.
        features: K.
        scale: standard deviation of a feature.
        floor: samples of a smaller margin are removed before the pruning.

    Returns:
        (count, features) float64, y x: the first column is the margin, in ascending order.
    """
    candidates = round(count / (1 - curve.ratio))
    margins = np.sort(draw_margins(random, candidates, scale=scale, floor=floor))
    kept = margins[:count] if curve.strategy == "prune_easy" else margins[-count:]
    others = random.standard_normal((count, features - 1)) * scale
    return np.column_stack([kept, others])


def draw_margins(random: np.random.Generator, count: int, *, scale: float, floor: float) -> Floats:
    """(count,) margins |x_1| of normal features, given that they are at least ``floor``: by the inverse of the tail."""
    tail = random.uniform(0, stats.norm.sf(floor / scale), size=count)
    margins: Floats = stats.norm.isf(tail) * scale
    return margins


def mislabelled_share(epsilon: float, ratio: float, *, scale: float) -> float:
    """Share of the samples kept by pruning easy ones that an attack can carry over the teacher's boundary.

    Of many unfiltered samples, P(margin < ``epsilon``) among the 1 - ``ratio`` that are kept, at most all of them.
    """
    below = 1 - 2 * stats.norm.sf(epsilon / scale)
    return min(1.0, float(below) / (1 - ratio))
