"""What a paper claims of curves, checked by numbers; ``tables.claims`` has the rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from robustprune.experiments.claims import Judged, Verdict, judge_relation, judged
from robustprune.experiments.figures.lines import Curve

if TYPE_CHECKING:
    from robustprune.experiments.cells import Cell
    from robustprune.experiments.figures.figure import Panel
    from robustprune.experiments.figures.of_runs import CurveCheck, CurveClaim

DEFINITION = {"figures.claims": 2}

Place = Callable[[Curve, float], float]
"""The place of a curve that a claim means by a number."""

FEATURE_WORDS = {"mean": "mean", "peak": "place of the largest", "linearity": "squared correlation with the axis"}
DECIMALS_OF = {"peak": 2, "linearity": 4}


def judge_curves(
    claims: Sequence[CurveClaim],
    curves: Mapping[str, Curve],
    panels: Mapping[str, Panel],
    *,
    place: Place = lambda _, place: place,
    where: str = "at",
) -> list[Judged]:
    """Each claim, with what was found of its checks, and whether this run agrees; ``where`` leads to a place."""
    return [
        judged(claim.claim, [_found(check, curves, panels, place, where) for check in claim.checks]) for claim in claims
    ]


def _found(
    check: CurveCheck, curves: Mapping[str, Curve], panels: Mapping[str, Panel], place: Place, where: str
) -> tuple[str, Verdict]:
    curve, panel = curves[check.row], panels[check.quantity]
    other = curves[check.other] if isinstance(check.other, str) else None
    if check.feature != "value":
        words = f"{FEATURE_WORDS[check.feature]} {panel.label} of {check.row}"
        return judge_relation(
            check,
            (words, str(check.other)),
            curve.feature(check.quantity, check.feature),
            other.feature(check.quantity, check.feature) if other else float(check.other),
            decimals=DECIMALS_OF.get(check.feature, panel.decimals),
        )
    if check.at == "every":
        shared = curve.points if other is None or other.level is not None else other.points
        places = [one for one in curve.points if one in shared]
        return _everywhere(check, panel, [_at(check, curve, panel, other, one, one, where) for one in places])
    assert check.at is not None
    here = place(curve, check.at)
    there = here
    if other is not None and other.points:
        there = place(other, check.at if check.other_at is None else check.other_at)
    return _at(check, curve, panel, other, here, there, where)


def _at(
    check: CurveCheck, curve: Curve, panel: Panel, other: Curve | None, here: float, there: float, where: str
) -> tuple[str, Verdict]:
    cell: Cell = other.at(there).get(check.quantity) if other else float(check.other)
    beside = f"{check.other}{'' if here == there else f' {where} {there:g}'}"
    words = f"{panel.label} of {check.row} {where} {here:g}", beside
    return judge_relation(check, words, curve.at(here).get(check.quantity), cell, decimals=panel.decimals)


def _everywhere(check: CurveCheck, panel: Panel, found: Sequence[tuple[str, Verdict]]) -> tuple[str, Verdict]:
    """One finding for all places; where one disagrees, that is the first of them."""
    verdicts = [verdict for _, verdict in found]
    counts = f"{verdicts.count('agrees')} of {len(found)} places agree, {verdicts.count('disagrees')} disagree"
    first = next((sentence for sentence, verdict in found if verdict == "disagrees"), None)
    within = "" if check.within is None else f" (within {check.within:g})"
    words = f"{panel.label} of {check.row} {check.relation} {check.other}{within} everywhere: {counts}"
    if first is not None:
        return f"{words}, first {first}", "disagrees"
    return words, "agrees" if set(verdicts) == {"agrees"} else "cannot tell"
