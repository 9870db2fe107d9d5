"""Claims of papers, and how they are judged: one engine for tables, figures and studies."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from robustprune.experiments.intervals import Cell, Interval, interval_between
from robustprune.experiments.statistics import LEVEL

if TYPE_CHECKING:
    from robustprune.experiments.claim_settings import Relation

DEFINITION = {"tables.claims": 5}

RULE = (
    "A check agrees where the whole 95 % interval of the difference lies on the claimed side (for *near*: within the "
    "stated distance), and disagrees where it lies on the other side (beyond the distance); *above* and *below* with a "
    "distance allow so much on the other side. Otherwise it cannot tell. Intervals are over training seeds and, for "
    "accuracies, over test images as well; differences are taken seed by seed where two rows share two seeds or more, "
    "else, and where these differences are all the same, by Welch's degrees of freedom. One training has no interval "
    "and cannot tell, nor can other numbers than accuracies that do not spread over runs. A claim agrees where all of "
    "its checks do. It disagrees where one of them does after Holm's correction for their number, so that many checks "
    "do not make a claim fail by chance. More seeds, or test images: as many as would decide, at even odds, if "
    "difference and spread stayed as they are."
)
SIDE = (1 - LEVEL) / 2  # error rate of each side
MOST = 1000  # times as many seeds or test images, beyond which no number is given

Verdict = Literal["agrees", "disagrees", "cannot tell"]


@dataclass(frozen=True)
class Judged:
    """A claim and its verdict.

    Attributes:
        claim: the paper's sentence.
        found: a sentence for each of its checks.
        verdict: agrees, disagrees, or cannot tell.
        seeds: how many seeds would decide a verdict that cannot tell; None where none would, or that is not known.
    """

    claim: str
    found: tuple[str, ...]
    verdict: Verdict
    seeds: int | None = None


@dataclass(frozen=True)
class Finding:
    """What was measured for one inequality.

    Attributes:
        check: the inequality.
        words: it, and what was measured.
        interval: of the difference; None where it was not measured.
    """

    check: Relation
    words: str
    interval: Interval | None

    @property
    def p_for(self) -> float:
        """One-sided p of the test whose rejection means that the check holds."""
        above, below = self._tests(-(self.check.within or 0.0))
        return {"above": above, "below": below, "near": max(above, below)}[self.check.relation]

    @property
    def p_against(self) -> float:
        """One-sided p of the test whose rejection means that it does not hold."""
        above, below = self._tests(self.check.within or 0.0)
        return {"above": below, "below": above, "near": min(above, below)}[self.check.relation]

    def _tests(self, bound: float) -> tuple[float, float]:
        """Return p of "the difference is above ``bound``" and of "it is below ``-bound``"."""
        if self.interval is None:
            return 1.0, 1.0
        touching = self.check.within is not None  # a number at the distance is within it
        return (
            self.interval.p_above(bound, touching=touching and bound < 0),
            self.interval.negative().p_above(bound, touching=touching and bound < 0),
        )

    def decides(self, checks: int) -> bool:
        """Return True if it has a verdict as one of so many checks, each of which could be the one against."""
        return self.p_for <= SIDE or self.p_against <= SIDE / checks

    def seeds_to_decide(self, checks: int) -> int | None:
        """Return how many seeds would decide it if difference and spread stay; None if not known."""
        if self.interval is None or self.interval.seeds is None:
            return None
        runs = self.interval.runs
        return _least(runs, lambda seeds: self._with_more(seeds / runs).decides(checks))

    def images_to_decide(self, checks: int) -> int | None:
        """Return how many test images would decide it with these seeds; None if none would."""
        if self.interval is None or self.interval.seeds is None or self.interval.images is None:
            return None
        images = round(self.interval.images.degrees) + 1
        return _least(images, lambda count: self._with_more(1.0, count / images).decides(checks))

    def _with_more(self, seeds: float, images: float = 1.0) -> Finding:
        assert self.interval is not None
        return replace(self, interval=self.interval.with_more(seeds, images))


def _least(now: int, decides: Callable[[int], bool]) -> int | None:
    """Return the least number above ``now`` that decides, as more of them never decide less."""
    numbers = range(now + 1, MOST * now)
    place = bisect_left(numbers, True, key=decides)
    return numbers[place] if place < len(numbers) else None


@dataclass(frozen=True)
class Everywhere:
    """What was measured for an inequality at each of some places.

    Attributes:
        words: the inequality.
        places: what was measured at each.
    """

    words: str
    places: tuple[Finding, ...]


def judged(claim: str, found: Sequence[Finding | Everywhere]) -> Judged:
    """Judge a claim from what was measured for each of its checks."""
    every = [one for entry in found for one in (entry.places if isinstance(entry, Everywhere) else (entry,))]
    verdicts = dict(zip(map(id, every), verdicts_of(every), strict=True))
    overall = _overall(list(verdicts.values()))
    texts = [
        _everywhere(entry, [verdicts[id(one)] for one in entry.places])
        if isinstance(entry, Everywhere)
        else f"{entry.words}: {verdicts[id(entry)]}{_wanted(entry, verdicts[id(entry)], len(every))}"
        for entry in found
    ]
    if overall != "cannot tell":
        return Judged(claim, tuple(texts), overall)
    wanted = [one.seeds_to_decide(len(every)) for one in every if verdicts[id(one)] == "cannot tell"]
    return Judged(claim, tuple(texts), overall, max((n for n in wanted if n), default=None) if all(wanted) else None)


def verdicts_of(found: Sequence[Finding]) -> list[Verdict]:
    """Return the verdict of each check of a claim; those against it by Holm's step-down procedure."""
    verdicts: list[Verdict] = ["agrees" if one.p_for <= SIDE else "cannot tell" for one in found]
    for step, place in enumerate(sorted(range(len(found)), key=lambda place: found[place].p_against)):
        if found[place].p_against > SIDE / (len(found) - step):
            break
        verdicts[place] = "disagrees"
    return verdicts


def _overall(verdicts: Sequence[Verdict]) -> Verdict:
    return "disagrees" if "disagrees" in verdicts else "agrees" if set(verdicts) == {"agrees"} else "cannot tell"


def _everywhere(entry: Everywhere, verdicts: Sequence[Verdict]) -> str:
    counts = f"{verdicts.count('agrees')} of {len(verdicts)} places agree, {verdicts.count('disagrees')} disagree"
    first = next((one.words for one, verdict in zip(entry.places, verdicts, strict=True) if verdict == "disagrees"), "")
    return f"{entry.words} everywhere: {counts}{first and f', first {first}'}: {_overall(verdicts)}"


def _wanted(finding: Finding, verdict: Verdict, checks: int) -> str:
    """Return how many more seeds, or else test images, would decide an undecided check, in words."""
    interval = finding.interval
    if verdict != "cannot tell" or interval is None or interval.seeds is None:
        return ""
    if (seeds := finding.seeds_to_decide(checks)) is not None:
        more = seeds - interval.runs
        return f" ({more} more seed{'s' if more > 1 else ''} would decide)"
    if (images := finding.images_to_decide(checks)) is not None:
        return f" (no number of seeds would decide; {images:,} test images would)"
    return " (no number of seeds would decide)"


def measured(check: Relation, compared: tuple[str, str], cell: Cell, other: Cell, *, decimals: int) -> Finding:
    """Return what two cells say of a check; ``compared`` is what they are."""
    or_so = "" if check.relation == "near" else "or "
    within = "" if check.within is None else f" ({or_so}within {check.within:g})"
    interval = interval_between(cell, other)
    text = "not measured" if interval is None else _in_words(interval, decimals)
    return Finding(check, f"{compared[0]} {check.relation} {compared[1]}{within}: {text}", interval)


def _in_words(interval: Interval, decimals: int) -> str:
    if interval.seeds is None:
        reason = "one training" if interval.runs == 1 else "the runs do not spread"
        return f"{interval.middle:+.{decimals}f}, no interval ({reason})"
    half = interval.half()
    spread = "" if half == 0 else f" +- {half:.{decimals}f}"
    how = f" ({interval.how})" if interval.how else ""
    return f"{interval.middle:+.{decimals}f}{spread}{how}"


def sentences(judged_claims: Sequence[Judged]) -> Iterator[str]:
    """Yield what became of each claim, in words, and the rule behind it."""
    for one in judged_claims:
        verdict = one.verdict if one.verdict == "cannot tell" else f"{one.verdict} with it"
        yield f"Claimed: {one.claim}. Measured: {'; '.join(one.found)}. This run {verdict}."
    if judged_claims:
        yield RULE
