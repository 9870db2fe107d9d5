"""What PUMA says of its figures 1 to 4, measured.

An exponent is that of a power law through a curve, error ~ alpha^exponent: a line through the logarithms for each
trial, so that its interval is over trials. A curve that falls faster than any power law gets steeper and steeper on
such axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from robustprune.experiments.statistics import Summary, welch_test
from robustprune.experiments.studies.settings import FROM_LOAD, PerceptronCurve

DEFINITION = {"perceptron.claims": 2}

NEAR = 0.1  # how far from -1 an exponent may be to be called -1
CHANCE = 0.45  # an angle error above it is no better than a guess

NONE = PerceptronCurve(strategy="none")

Comparison = Literal["less", "more", "cannot tell"]


class Course(NamedTuple):
    """How the error of a curve changes with alpha.

    Attributes:
        curve: what is pruned.
        early: exponent over the lower half of the alpha, over the trials with an error at each; None below two trials.
        late: exponent over the upper half of them.
        last: mean angle error at the largest alpha.
        relative: that in units of the error without pruning.
        against_none: for each alpha, whether the angle error is less or more than without pruning.
    """

    curve: PerceptronCurve
    early: Summary | None
    late: Summary | None
    last: float
    relative: float
    against_none: dict[float, Comparison]


def select(errors: pd.DataFrame, curve: PerceptronCurve) -> pd.DataFrame:
    """The rows of a study's errors that belong to a curve."""
    return errors[(errors["strategy"] == curve.strategy) & (errors["ratio"] == curve.ratio)]


def halves(loads: tuple[float, ...]) -> tuple[float, float, float]:
    """First, middle and last of the alpha of at least FROM_LOAD, of which there are three or more."""
    inside = [load for load in loads if load >= FROM_LOAD]
    return inside[0], inside[len(inside) // 2], inside[-1]


def exponent(rows: pd.DataFrame, least: float, most: float) -> Summary | None:
    """Exponent of a curve's angle error between two loads.

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
    """Whether an error is less or more than another, where Welch's 95 % interval of the difference leaves out 0."""
    gap, half = first.mean - second.mean, 0.0
    if first.std or second.std:
        half = welch_test(first, second).ci95
    return "less" if gap < -half else "more" if gap > half else "cannot tell"


def courses(errors: pd.DataFrame, curves: tuple[PerceptronCurve, ...], loads: tuple[float, ...]) -> Iterator[Course]:
    """The course of each curve of a study."""
    first, middle, last = halves(loads)
    none = summaries(errors, NONE)
    for curve in curves:
        rows, found = select(errors, curve), summaries(errors, curve)
        yield Course(
            curve,
            exponent(rows, first, middle),
            exponent(rows, middle, last),
            found[last].mean,
            found[last].mean / none[last].mean if none[last].mean > 0 else float("nan"),
            {load: compare(found[load], none[load]) for load in loads},
        )


def summaries(errors: pd.DataFrame, curve: PerceptronCurve) -> dict[float, Summary]:
    """Mean angle error of a curve over the trials, by load."""
    by_load = select(errors, curve).groupby("load")["angle_error"]
    return {float(str(load)): Summary.of(trials.tolist()) for load, trials in by_load}


def change(errors: pd.DataFrame, others: pd.DataFrame, curve: PerceptronCurve) -> dict[float, Summary | None]:
    """By how many percent of the other study's error a curve's angle error differs, by load.

    Trials of one number are paired. None where the other study has no error left.
    """
    both = select(errors, curve).merge(select(others, curve), on=["load", "trial"], suffixes=("", "_other"))
    found: dict[float, Summary | None] = {}
    for load, trials in both.groupby("load"):
        base = float(trials["angle_error_other"].mean())
        percent = 100 * (trials["angle_error"] - trials["angle_error_other"]) / base if base > 0 else None
        found[float(str(load))] = None if percent is None else Summary.of(percent.tolist())
    return found
