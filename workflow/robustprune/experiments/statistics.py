"""Statistics over the runs of a method: summaries, intervals, Welch's test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import special  # not scipy.stats, which takes longer to import than a table to make

LEVEL = 0.95  # of every interval
NO_SPREAD = 1e-9  # of the largest value, which is what rounding leaves of none


@dataclass(frozen=True)
class Summary:
    """Summary of one number over the runs of a method.

    Attributes:
        n: runs, at least 1.
        mean: their mean.
        std: their standard deviation, ddof 1; None where it is not known, as of a single run.
        ci95: half width of the 95 % interval of the mean; None where the spread is not known: of a single run, and
            where runs do not spread, as accuracies come in steps.
        median: their median.
    """

    n: int
    mean: float
    std: float | None
    ci95: float | None
    median: float

    @classmethod
    def of(cls, values: Sequence[float], *, exact: bool = False) -> Self:
        """Return the summary of a value per run. Raises ValueError for none, or one that is not finite.

        Args:
            values: a value per run.
            exact: True if chance has no part in them, so that an interval may have a width of 0.
        """
        if not len(values) or not np.isfinite(values).all():
            raise ValueError(f"a summary is of at least one finite number, not of {list(values)}")
        array = np.asarray(values, dtype=np.float64)
        mean, median = float(array.mean()), float(np.median(array))
        if len(array) == 1:
            return cls(n=1, mean=mean, std=None, ci95=None, median=median)
        std = float(np.std(array, ddof=1))
        if std <= NO_SPREAD * float(np.abs(array).max()):
            return cls(n=len(array), mean=mean, std=0.0, ci95=0.0 if exact else None, median=median)
        ci95 = std * t_quantile(len(array) - 1) / math.sqrt(len(array))
        return cls(n=len(array), mean=mean, std=std, ci95=ci95, median=median)

    @property
    def standard_error(self) -> float:
        """Standard error of the mean. Raises ValueError where the spread is not known."""
        if self.std is None:
            raise ValueError(f"the spread of {self.n} run is not known")
        return self.std / math.sqrt(self.n)

    def told(self, decimals: int, *, sign: str = "") -> str:
        """For a sentence: the mean and, of several runs, its interval; ``sign`` is ``+`` for a change."""
        width = "" if self.ci95 is None else f" ± {self.ci95:.{decimals}f}"
        return f"{self.mean:{sign}.{decimals}f}{width}"

    def columns(self, name: str) -> dict[str, float | int | None]:
        """Cells of a table's row, none without ``<name>_n``: mean, std, ci95, median, n."""
        told = {"mean": self.mean, "std": self.std, "ci95": self.ci95, "median": self.median, "n": self.n}
        return {f"{name}_{statistic}": value for statistic, value in told.items()}


def t_quantile(degrees: float, level: float = LEVEL) -> float:
    """Return half the width of an interval in standard errors: the upper quantile of Student's t."""
    return float(special.stdtrit(degrees, (1 + level) / 2))


def welch_degrees(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Return the degrees of freedom of the sum of two variances of means, each with its degrees (Satterthwaite)."""
    total = first[0] + second[0]
    return 1 / sum((variance / total) ** 2 / degrees for variance, degrees in (first, second)) if total else 1.0


@dataclass(frozen=True)
class WelchTest:
    """Welch's t-test of two means whose variances may differ.

    Attributes:
        difference: first mean minus second.
        ci95: half width of the 95 % interval of the difference.
        t: the difference in units of its standard error.
        degrees: degrees of freedom, by Welch and Satterthwaite.
        p_greater: one-sided p-value of "the first mean is greater".
    """

    difference: float
    ci95: float
    t: float
    degrees: float
    p_greater: float


def welch_test(first: Summary, second: Summary) -> WelchTest:
    """Test whether the mean of ``first`` is greater than that of ``second`` (Kaufmann et al. v2, Appendix B).

    The runs are not paired: for methods that share no seeds.

    Raises:
        ValueError: when one of them is a single run, or neither spreads.
    """
    error = math.hypot(first.standard_error, second.standard_error)
    if error == 0:
        raise ValueError("neither of the two spreads, so a test of their means tells nothing")
    difference = first.mean - second.mean
    first_part, second_part = ((one.standard_error**2, one.n - 1) for one in (first, second))
    degrees = welch_degrees(first_part, second_part)
    return WelchTest(
        difference=difference,
        ci95=t_quantile(degrees) * error,
        t=difference / error,
        degrees=degrees,
        p_greater=float(special.stdtr(degrees, -difference / error)),
    )


def runs_below_chance(robust_accuracies: Sequence[float], *, chance: float) -> int:
    """Runs that withstand attack in fewer images than a guess would get right.

    Catastrophic overfitting ends there: RS-FGSM on MNIST leaves part of its runs near 0 and the others near 80 to 90
    percent (papers.md, K6), which neither a mean nor a standard deviation tells.

    Args:
        robust_accuracies: one a run.
        chance: accuracy of guessing, in the same unit: 1 / classes, or 100 / classes for percent.
    """
    return sum(accuracy < chance for accuracy in robust_accuracies)


DEFINITION = {"tables.statistics": 4}
