"""Statistics over the runs of a method: summaries, intervals, Welch's test."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy import special  # not scipy.stats, which takes longer to import than a table to make

LEVEL = 0.95  # of every interval
NO_SPREAD = 1e-9  # of that of the runs, which is what rounding leaves of none


@dataclass(frozen=True)
class Summary:
    """Summary of one number over the runs of a method.

    Attributes:
        n: runs, at least 1.
        mean: their mean.
        std: their standard deviation, ddof 1; None where it is not known, as of a single run.
        ci95: half width of the 95 % interval of the mean; None where ``std`` is.
        median: their median.
    """

    n: int
    mean: float
    std: float | None
    ci95: float | None
    median: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the summary of a value per run. Raises ValueError for none, or one that is not finite."""
        if not len(values) or not np.isfinite(values).all():
            raise ValueError(f"a summary is of at least one finite number, not of {list(values)}")
        array = np.asarray(values, dtype=np.float64)
        mean, median = float(array.mean()), float(np.median(array))
        if len(array) == 1:
            return cls(n=1, mean=mean, std=None, ci95=None, median=median)
        std = _spread(values)
        return cls(n=len(array), mean=mean, std=std, ci95=std * _widths(len(array)), median=median)

    def without_spread(self) -> Self:
        """The same where it is not known how far the values spread."""
        return replace(self, std=None, ci95=None)

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


def _spread(values: Collection[float]) -> float:
    """Standard deviation, ddof 1; exactly 0 where all are the same, of which NumPy leaves a rounding error."""
    return 0.0 if len(set(values)) == 1 else float(np.std(list(values), ddof=1))


def _widths(n: int) -> float:
    """Half width of the interval of a mean of ``n`` >= 2 values, in standard deviations."""
    return _quantile(n - 1) / math.sqrt(n)


def _quantile(degrees: float) -> float:
    """Half width of the interval in standard errors: the upper quantile of Student's t."""
    return float(special.stdtrit(degrees, (1 + LEVEL) / 2))


def paired_difference(ours: Mapping[int, float], baseline: Mapping[int, float]) -> Summary:
    """Ours minus the baseline, seed by seed, over the seeds that both have.

    Runs of one seed share their initial weights and order of images as far as the methods allow, so that their
    difference spreads less than the runs do. Where differences ``tie`` their spread is not known.

    Args:
        ours: a value for each seed.
        baseline: the same of the method that is compared with.

    Raises:
        ValueError: when they share no seed.
    """
    shared = sorted(ours.keys() & baseline.keys())
    if not shared:
        raise ValueError(f"no seed is among both {sorted(ours)} and {sorted(baseline)}")
    difference = Summary.of([ours[seed] - baseline[seed] for seed in shared])
    return difference.without_spread() if tie(ours, baseline) else difference


def tie(ours: Mapping[int, float], baseline: Mapping[int, float]) -> bool:
    """Return True if the differences of two runs or more are all the same though the runs spread.

    That is chance, as accuracies come in steps of an image, and says nothing of how far differences spread.
    """
    shared = ours.keys() & baseline.keys()
    if len(shared) < 2:
        return False
    spread = max(_spread(runs.values()) for runs in (ours, baseline))
    return _spread([ours[seed] - baseline[seed] for seed in shared]) < NO_SPREAD * spread


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
    """Return True if the mean of ``first`` is greater than that of ``second`` (Kaufmann et al. v2, Appendix B).

    The runs are not paired: for methods that share no seeds.

    Raises:
        ValueError: when one of them is a single run, or neither spreads.
    """
    error = math.hypot(first.standard_error, second.standard_error)
    if error == 0:
        raise ValueError("neither of the two spreads, so a test of their means tells nothing")
    difference = first.mean - second.mean
    shares = [(one.standard_error / error) ** 4 / (one.n - 1) for one in (first, second)]
    degrees = 1 / sum(shares)
    return WelchTest(
        difference=difference,
        ci95=_quantile(degrees) * error,
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


DEFINITION = {"tables.statistics": 3}
