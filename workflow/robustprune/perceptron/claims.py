"""What PUMA says of its figures 1 to 4, measured.

An exponent is that of a power law through a curve, error ~ alpha^exponent: a line through the logarithms for each
trial, so that its interval is over trials. A curve that falls faster than any power law gets steeper and steeper on
such axes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from robustprune.settings.perceptron import PerceptronCurve
from robustprune.tables.statistics import Summary

DEFINITION = 1

FROM_LOAD = 2.0  # PUMA: below alpha = 2 other things happen
NEAR = 0.1  # how far from -1 an exponent may be to be called -1
CHANCE = 0.45  # an angle error above it is no better than a guess


class Course(NamedTuple):
    """How the error of a curve changes with alpha.

    Attributes:
        curve: what is pruned.
        early: exponent over the lower half of the alpha of at least FROM_LOAD; None where the error vanishes.
        late: exponent over the upper half of them.
        last: mean angle error at the largest alpha.
        relative: that in units of the error without pruning.
    """

    curve: PerceptronCurve
    early: Summary | None
    late: Summary | None
    last: float
    relative: float


def select(errors: pd.DataFrame, curve: PerceptronCurve) -> pd.DataFrame:
    """The rows of a study's errors that belong to a curve."""
    return errors[(errors["strategy"] == curve.strategy) & (errors["ratio"] == curve.ratio)]


def exponent(rows: pd.DataFrame, least: float, most: float) -> Summary | None:
    """Exponent of a curve's angle error between two loads; None where fewer than two trials have two errors above 0."""
    slopes = []
    inside = rows[(rows["load"] >= least) & (rows["load"] <= most) & (rows["angle_error"] > 0)]
    for _, trial in inside.groupby("trial"):
        if len(trial) >= 2:
            slopes.append(float(np.polyfit(np.log(trial["load"]), np.log(trial["angle_error"]), 1)[0]))
    return Summary.of(slopes) if len(slopes) >= 2 else None


def courses(errors: pd.DataFrame, curves: tuple[PerceptronCurve, ...]) -> Iterator[Course]:
    """The course of each curve of a study."""
    loads = np.sort(errors["load"].unique())
    loads = loads[loads >= FROM_LOAD] if (loads >= FROM_LOAD).sum() >= 2 else loads
    first, middle, last = float(loads[0]), float(loads[len(loads) // 2]), float(loads[-1])
    baseline = _mean_error(select(errors, PerceptronCurve(strategy="none")), last)
    for curve in curves:
        rows = select(errors, curve)
        at_last = _mean_error(rows, last)
        yield Course(
            curve,
            exponent(rows, first, middle),
            exponent(rows, middle, last),
            at_last,
            at_last / baseline if baseline > 0 else float("nan"),
        )


def _mean_error(rows: pd.DataFrame, load: float) -> float:
    return float(rows.loc[rows["load"] == load, "angle_error"].mean())
