"""Claims of papers, and how they are judged: one engine for tables, figures and studies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from robustprune.experiments.cells import Cell, Sample
from robustprune.experiments.statistics import paired_difference, welch_test

if TYPE_CHECKING:
    from robustprune.experiments.claim_settings import Relation

DEFINITION = {"tables.claims": 4}

RULE = (
    "A check agrees where the whole 95 % interval of the difference lies on the claimed side (for *near*: within the "
    "stated distance), disagrees where the whole interval lies on the other side (beyond the distance), and cannot "
    "tell otherwise. *Above* and *below* with a distance take what is at most so far on the other side, too. "
    "Differences are taken seed by seed where two rows share two seeds or more, else, and where these differences all "
    "tie, by Welch's interval; a single run, and gains that all tie, have no interval and cannot tell; a number "
    "without spread is compared as it is. A claim agrees where all of its checks do, and disagrees where one does."
)


Verdict = Literal["agrees", "disagrees", "cannot tell"]


@dataclass(frozen=True)
class Interval:
    """Interval of a difference, with 95 % confidence.

    Attributes:
        middle: the difference as it was found.
        half: half of the interval's width; infinite where the spread is not known.
        how: what it comes from, in words.
    """

    middle: float
    half: float
    how: str

    @property
    def low(self) -> float:
        """Its lower end."""
        return self.middle - self.half

    @property
    def high(self) -> float:
        """Its upper end."""
        return self.middle + self.half


@dataclass(frozen=True)
class Judged:
    """A claim and its verdict.

    Attributes:
        claim: the paper's sentence.
        found: a sentence for each of its checks.
        verdict: agrees, disagrees, or cannot tell.
    """

    claim: str
    found: tuple[str, ...]
    verdict: Verdict


def judged(claim: str, found: Sequence[tuple[str, Verdict]]) -> Judged:
    """A claim, from what was found of each of its checks, in words and as a verdict."""
    verdicts = {verdict for _, verdict in found}
    overall: Verdict = "disagrees" if "disagrees" in verdicts else "agrees" if verdicts == {"agrees"} else "cannot tell"
    return Judged(claim, tuple(f"{sentence}: {verdict}" for sentence, verdict in found), overall)


def judge_relation(
    check: Relation, compared: tuple[str, str], cell: Cell, other: Cell, *, decimals: int
) -> tuple[str, Verdict]:
    """Return what two cells say of a check, in words and as a verdict; ``compared`` is what they are."""
    or_so = "" if check.relation == "near" else "or "
    within = "" if check.within is None else f" ({or_so}within {check.within:g})"
    sentence = f"{compared[0]} {check.relation} {compared[1]}{within}"
    interval = interval_between(cell, other)
    if interval is None:
        return f"{sentence}: not measured", "cannot tell"
    return f"{sentence}: {_in_words(interval, decimals)}", verdict_of(check, interval)


def verdict_of(check: Relation, interval: Interval) -> Verdict:
    """Return what an interval of the difference says of a check."""
    within = check.within or 0.0
    if check.relation == "near":
        agrees = max(abs(interval.low), abs(interval.high)) <= within
        disagrees = interval.low > within or interval.high < -within
    elif check.relation == "above":
        agrees, disagrees = interval.low > -within, interval.high < -within
    else:
        agrees, disagrees = interval.high < within, interval.low > within
    return "agrees" if agrees else "disagrees" if disagrees else "cannot tell"


def interval_between(cell: Cell, other: Cell) -> Interval | None:
    """The difference of two cells; None where one is missing or text."""
    if cell is None or other is None or isinstance(cell, str) or isinstance(other, str):
        return None
    if isinstance(cell, Sample) and isinstance(other, Sample):
        return _between_samples(cell, other)
    sample = next((one for one in (cell, other) if isinstance(one, Sample)), None)
    first, second = (one.summary.mean if isinstance(one, Sample) else float(one) for one in (cell, other))
    if sample is None:
        return Interval(first - second, 0.0, "")
    half = sample.summary.ci95
    return Interval(first - second, math.inf if half is None else half, f"n = {sample.summary.n}")


def _between_samples(cell: Sample, other: Sample) -> Interval:
    first, second = cell.summary, other.summary
    numbers = f"n = {first.n} and {second.n}"
    if cell.tied or other.tied:
        return Interval(first.mean - second.mean, math.inf, numbers)
    if len(cell.values.keys() & other.values.keys()) > 1:
        paired = paired_difference(cell.values, other.values)
        if paired.ci95 is not None:
            return Interval(paired.mean, paired.ci95, f"paired, n = {paired.n}")
    if min(first.n, second.n) < 2 or not (first.std or second.std):
        return Interval(first.mean - second.mean, math.inf, numbers)
    test = welch_test(first, second)
    return Interval(test.difference, test.ci95, f"Welch, {numbers}")


def _in_words(interval: Interval, decimals: int) -> str:
    spread = "" if interval.half == 0 else f" +- {interval.half:.{decimals}f}"
    spread = ", no interval" if math.isinf(interval.half) else spread
    how = f" ({interval.how})" if interval.how else ""
    return f"{interval.middle:+.{decimals}f}{spread}{how}"


def sentences(found: Sequence[Judged]) -> Iterator[str]:
    """Return what became of each claim, in words, and the rule behind it."""
    for one in found:
        verdict = one.verdict if one.verdict == "cannot tell" else f"{one.verdict} with it"
        yield f"Claimed: {one.claim}. Measured: {'; '.join(one.found)}. This run {verdict}."
    if found:
        yield RULE
