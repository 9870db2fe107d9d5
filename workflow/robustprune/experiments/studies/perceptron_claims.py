"""The numbers behind PUMA's claims on its figures 1 to 4.

An exponent is that of a power law through a curve, error ~ alpha^exponent: a line through the logarithms for each
trial, so that its interval is over trials. A curve that falls faster than any power law gets steeper and steeper on
such axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd

from robustprune.experiments.statistics import Summary, welch_test

if TYPE_CHECKING:
    from robustprune.experiments.studies.perceptron import PerceptronCurve

DEFINITION = {"perceptron.claims": 3}

NEAR = 0.1  # largest distance from -1 of an exponent that counts as -1
CHANCE = 0.45  # an angle error above it is no better than a guess

Comparison = Literal["less", "more", "cannot tell"]


class ErrorCurve(NamedTuple):
    """The error of a curve over alpha, in numbers.

    Attributes:
        early: exponent over the lower half of the alpha, over the trials with an error at each; None below two trials.
        late: exponent over the upper half.
        last: mean angle error at the largest alpha.
        relative: ``last`` in units of the error without pruning.
        against_none: comparison of the angle error with that without pruning, for each alpha.
    """

    curve: PerceptronCurve
    early: Summary | None
    late: Summary | None
    last: float
    relative: float
    against_none: dict[float, Comparison]


def select(errors: pd.DataFrame, curve: PerceptronCurve) -> pd.DataFrame:
    """Return the rows of a study's errors that belong to a curve."""
    return errors[(errors["strategy"] == curve.strategy) & (errors["ratio"] == curve.ratio)]


def halves(loads: Sequence[float]) -> tuple[float, float, float]:
    """Return the first, middle and last of three loads or more."""
    return loads[0], loads[len(loads) // 2], loads[-1]


def exponent(rows: pd.DataFrame, least: float, most: float) -> Summary | None:
    """Return the exponent of a curve's angle error between two loads.

    A trial without an error at one of them has no power law and is left out, so ``n`` may be below the number of
    trials; None where it would be below 2.
    """
    inside = rows[(rows["load"] >= least) & (rows["load"] <= most)]
    slopes = [
        float(np.polyfit(np.log(trial["load"]), np.log(trial["angle_error"]), 1)[0])
        for _, trial in inside.groupby("trial")
        if (trial["angle_error"] > 0).all()
    ]
    return Summary.of(slopes) if len(slopes) >= 2 else None


def compare(first: Summary, second: Summary) -> Comparison:
    """Return "less" or "more" where Welch's 95 % interval of the difference of two errors leaves out 0."""
    if not (first.std or second.std):
        return "cannot tell"
    gap, half = first.mean - second.mean, welch_test(first, second).ci95
    return "less" if gap < -half else "more" if gap > half else "cannot tell"


def error_curves(
    errors: pd.DataFrame, curves: Sequence[PerceptronCurve], loads: Sequence[float], fitted: Sequence[float]
) -> Iterator[ErrorCurve]:
    """Yield the numbers of each curve of a study; the first curve is that without pruning.

    ``loads`` are ascending, ``fitted`` those of them over which exponents are fitted.
    """
    first, middle, last = halves(fitted)
    none = summaries(errors, curves[0])
    for curve in curves:
        rows, means = select(errors, curve), summaries(errors, curve)
        yield ErrorCurve(
            curve,
            exponent(rows, first, middle),
            exponent(rows, middle, last),
            means[last].mean,
            means[last].mean / none[last].mean if none[last].mean > 0 else float("nan"),
            {load: compare(means[load], none[load]) for load in loads},
        )


def summaries(errors: pd.DataFrame, curve: PerceptronCurve) -> dict[float, Summary]:
    """Return the mean angle error of a curve over the trials, by load."""
    by_load = select(errors, curve).groupby("load")["angle_error"]
    return {float(str(load)): Summary.of(trials.tolist()) for load, trials in by_load}


def change(errors: pd.DataFrame, others: pd.DataFrame, curve: PerceptronCurve) -> dict[float, Summary | None]:
    """Return the change of a curve's angle error against another study, in percent of that study's error, by load.

    Trials of one number are paired. None where the other study has no error left.
    """
    both = select(errors, curve).merge(select(others, curve), on=["load", "trial"], suffixes=("", "_other"))
    changes: dict[float, Summary | None] = {}
    for load, trials in both.groupby("load"):
        base = float(trials["angle_error_other"].mean())
        gaps = trials["angle_error"] - trials["angle_error_other"]
        changes[float(str(load))] = Summary.of((100 * gaps / base).tolist()) if base > 0 else None
    return changes
