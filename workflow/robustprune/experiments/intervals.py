"""Intervals of means and differences over what chance has drawn: training seeds and test images.

Accuracies vary with both. With d[s, i] the difference at test image i after the trainings of seed s, the mean has a
variance V_S over S seeds and a variance V_I over N images. Half the width of its interval at confidence c is

    sqrt(t(c; S - 1)^2 V_S + t(c; N - 1)^2 V_I)

with Student's quantiles t, which covers at least c of normal variables, however the two compare (Banerjee 1961,
Sankhya A 23, 359). As accuracies come in steps of an image, each variance is taken with one discordant outcome more
than was seen. ``benchmarks/false_verdicts.py`` simulates how often such an interval misses the true difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from robustprune.experiments.statistics import LEVEL, Summary, t_quantile, welch_degrees

DEFINITION = {"tables.cells": 3, "tables.intervals": 1}

SMALLEST_P = 1e-9  # that is told apart
STEP = 100.0  # percentage points of one outcome, from right to wrong


@dataclass(frozen=True)
class Sample:
    """A number for each run of a method.

    Attributes:
        by_seed: the numbers, at least one.
        outcomes: (S, N) int8 by seed and test image, where the numbers are percentages of test images: 1 where it is
            right, 0 where not; of a difference -1, 0 or 1.
        exact: True for numbers that chance has no part in, such as steps: without spread, their interval has width 0.
    """

    by_seed: Mapping[int, float]
    outcomes: npt.NDArray[np.int8] | None = None
    exact: bool = False

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.by_seed)

    @property
    def summary(self) -> Summary:
        """Mean, and spread over runs."""
        return Summary.of(list(self.by_seed.values()), exact=self.exact)

    def minus(self, other: Sample) -> Sample:
        """Return the difference, seed by seed, over the seeds that both have, at least one."""
        shared = sorted(self.by_seed.keys() & other.by_seed.keys())
        by_seed = {seed: self.by_seed[seed] - other.by_seed[seed] for seed in shared}
        outcomes = None
        if self.outcomes is not None and other.outcomes is not None:
            outcomes = self._outcomes_of(shared) - other._outcomes_of(shared)
        return Sample(by_seed, outcomes, self.exact and other.exact)

    def _outcomes_of(self, seeds: list[int]) -> npt.NDArray[np.int8]:
        assert self.outcomes is not None
        places = {seed: place for place, seed in enumerate(self.by_seed)}
        return self.outcomes[[places[seed] for seed in seeds]]

    def spread(self, name: str) -> float | None:
        """Return a spread by its name in ``columns``; None where it is not known."""
        cells = self.columns("")
        return cells.get(f"_{name}", cells["_ci95"])

    def columns(self, name: str) -> dict[str, float | int | None]:
        """Return cells of a table's row: ``<name>_mean``, ``_std``, ``_ci95``, ``_median``, ``_n``.

        ``ci95`` is over seeds and, of percentages of test images, over these, too; ``ci95_seeds`` is then over seeds
        alone, on these test images.
        """
        cells = self.summary.columns(name)
        if self.outcomes is None:
            return cells
        on_these_images = cells[f"{name}_ci95"]
        return cells | {f"{name}_ci95": interval_of(self).ci95, f"{name}_ci95_seeds": on_these_images}


Cell = Sample | float | int | str | None
"""Of a table: a number for each run, a number or text alone, or None where a run does not have it."""


def number_of(cell: Cell) -> float | None:
    """Return the one number that stands for a cell: the mean over runs, or the number; None for text or nothing."""
    if isinstance(cell, Sample):
        return cell.summary.mean
    return None if cell is None or isinstance(cell, str) else float(cell)


@dataclass(frozen=True)
class VariancePart:
    """The part of a mean's variance that is due to the seeds, or to the test images.

    Attributes:
        variance: of the mean.
        degrees: degrees of freedom of its estimate.
        common: what of it is noise of single outcomes, which more seeds and more images make smaller.
    """

    variance: float
    degrees: float
    common: float = 0.0

    def with_more(self, times: float, others: float) -> VariancePart:
        """Return it for so many times as many draws, and so many times as many of the other kind."""
        common = min(self.common, self.variance) / (times * others)
        variance = max(self.variance - self.common, 0.0) / times + common
        return VariancePart(variance, (self.degrees + 1) * times - 1, common)


CERTAIN = VariancePart(0.0, 1)


@dataclass(frozen=True)
class Interval:
    """A mean or a difference, and how far chance may have moved it.

    Attributes:
        middle: what was measured.
        runs: trainings; of two methods those of the one that has fewer.
        how: what it rests on, in words.
        seeds: the part of the variance that is due to training; None where it is not known, as of one training, or of
            runs that all have the same number.
        images: the part that is due to the test images; None where the number is not a percentage of these.
    """

    middle: float
    runs: int = 1
    how: str = ""
    seeds: VariancePart | None = None
    images: VariancePart | None = None

    def half(self, level: float = LEVEL) -> float:
        """Return half the width at a confidence in (0, 1); infinite where the variance over seeds is not known."""
        if self.seeds is None:
            return math.inf
        parts = [part for part in (self.seeds, self.images) if part is not None]
        return math.sqrt(sum(t_quantile(part.degrees, level) ** 2 * part.variance for part in parts))

    @property
    def ci95(self) -> float | None:
        """Half the width at 95 %; None where it is not known."""
        return None if self.seeds is None else self.half()

    def p_above(self, bound: float, *, touching: bool = False) -> float:
        """Return p of the one-sided test that the true value is above ``bound``, from SMALLEST_P to 1.

        With ``touching``, a number without chance in it is above the bound that it equals.
        """
        distance = self.middle - bound
        if touching and distance == 0 and self.half() == 0:
            return SMALLEST_P
        if distance <= 0 or self.seeds is None:
            return 1.0
        low, high = SMALLEST_P, 0.5
        while high - low > 1e-3 * high:
            p = math.sqrt(low * high)
            low, high = (low, p) if self.half(1 - 2 * p) < distance else (p, high)
        return high

    def with_more(self, seeds: float, images: float = 1.0) -> Interval:
        """Return what is expected of so many times as many seeds and test images, if the mean stays."""
        assert self.seeds is not None
        of_images = self.images and self.images.with_more(images, seeds)
        return replace(self, seeds=self.seeds.with_more(seeds, images), images=of_images)

    def negative(self) -> Interval:
        """Return the interval of the difference the other way round."""
        return replace(self, middle=-self.middle)


def interval_of(sample: Sample) -> Interval:
    """Return the interval of the mean over a sample's runs."""
    mean, n = sample.summary.mean, sample.n
    if sample.exact:
        return Interval(mean, n, f"n = {n}", CERTAIN)
    of_images = None if sample.outcomes is None else _over_images(sample.outcomes.mean(0), _noise(sample))
    return Interval(mean, n, f"n = {n}", _over_seeds(sample), of_images)


def interval_between(cell: Cell, other: Cell) -> Interval | None:
    """Return the difference of two cells; None where one is missing or text.

    It is taken seed by seed where both have two seeds or more in common, else, and where such differences are all the
    same, with the degrees of freedom of Welch and Satterthwaite. A number alone is certain.
    """
    if cell is None or other is None or isinstance(cell, str) or isinstance(other, str):
        return None
    if isinstance(cell, Sample) and isinstance(other, Sample):
        return _between_samples(cell, other)
    if isinstance(cell, Sample):
        interval = interval_of(cell)
        return replace(interval, middle=interval.middle - float(number_of(other) or 0))
    if isinstance(other, Sample):
        interval = interval_of(other)
        return replace(interval, middle=float(cell) - interval.middle)
    return Interval(float(cell) - float(other), seeds=CERTAIN)


def _between_samples(cell: Sample, other: Sample) -> Interval:
    shared = cell.by_seed.keys() & other.by_seed.keys()
    if len(shared) > 1 or (shared and cell.exact and other.exact):
        paired = interval_of(cell.minus(other))
        if paired.seeds is not None:
            return replace(paired, how=f"paired, {paired.how}")
    ours, theirs = _over_seeds(cell), _over_seeds(other)
    of_images = None
    if cell.outcomes is not None and other.outcomes is not None:
        of_images = _over_images(cell.outcomes.mean(0) - other.outcomes.mean(0), _noise(cell) + _noise(other))
    of_seeds = welch_sum(ours, theirs) if ours and theirs else None
    how = f"{'Welch, ' if of_seeds else ''}n = {cell.n} and {other.n}"
    return Interval(cell.summary.mean - other.summary.mean, min(cell.n, other.n), how, of_seeds, of_images)


def welch_sum(first: VariancePart, second: VariancePart) -> VariancePart:
    """Return the sum of two variances, with the degrees of freedom of Welch and Satterthwaite."""
    degrees = welch_degrees((first.variance, first.degrees), (second.variance, second.degrees))
    return VariancePart(first.variance + second.variance, degrees, first.common + second.common)


def _over_seeds(sample: Sample) -> VariancePart | None:
    """Return the variance over seeds of the mean; None where it is not known."""
    if sample.exact:
        return CERTAIN
    if sample.n < 2:
        return None
    variance, noise = sample.summary.standard_error**2, _noise(sample)
    return VariancePart(max(variance, noise), sample.n - 1, noise) if variance or noise else None


def _over_images(means: npt.NDArray[np.float64], noise: float) -> VariancePart:
    """Return the variance over test images of the mean of ``means``, (N,): each image's mean over seeds."""
    n = len(means)
    squares = float(((means - means.mean()) ** 2).sum()) + 1
    return VariancePart(STEP**2 * squares / (n * max(n - 1, 1)), max(n - 1, 1), noise)


def _noise(sample: Sample) -> float:
    """Return the variance of the mean that is due to single outcomes; 0 where these are not known, or of one run."""
    table = sample.outcomes
    if table is None or len(table) < 2:
        return 0.0
    seeds, images = table.shape
    residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    squares = float((residual**2).sum()) + 1
    return float(STEP**2 * squares / ((seeds - 1) * max(images - 1, 1) * seeds * images))
