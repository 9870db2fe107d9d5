"""Curves of quantities: their features, their claims, their data and their drawing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustprune.experiments.claims import Everywhere, Finding, Judged, judged, measured
from robustprune.experiments.figures.curve_claims import FEATURES, CurveCheck, CurveClaim, Feature
from robustprune.experiments.figures.figure import (
    Panel,
    SeriesStyle,
    legend_below,
    new_panels,
)
from robustprune.experiments.intervals import Cell, Sample, number_of

DEFINITION = {"figures.claims": 3, "figures.lines": 3}

COLUMNS_OF_LEGEND = 4
MANY_PLACES = 25  # from this number on a curve has a band and few markers
APART = 0.01  # of the axis, between the points of neighbouring curves at one place, so that intervals do not overlap
PERCENT = (-2.0, 102.0)  # limits of an axis of percentages, however wide the intervals

Cells = Mapping[str, Cell]
"""By the name of the quantity."""


@dataclass(frozen=True)
class Curve:
    """The measured values of a method: at each place of the axis, ascending, or one level for all places."""

    points: Mapping[float, Cells]
    level: Cells | None = None

    def at(self, place: float) -> Cells:
        """Return the cells at a place of the axis; none where the curve has no such place."""
        return self.points.get(place, {}) if self.level is None else self.level

    def feature(self, quantity: str, feature: str) -> Cell:
        """Return a feature of the whole curve, one value for each seed. A level has a mean only."""
        if self.level is not None:
            return self.level.get(quantity) if feature == "mean" else None
        cells = {place: cells.get(quantity) for place, cells in self.points.items()}
        by_place = {place: pd.Series(cell.by_seed) for place, cell in cells.items() if isinstance(cell, Sample)}
        if len(by_place) < len(cells):
            return None
        by_seed = pd.DataFrame(by_place).dropna()  # a row a seed
        rows = zip(by_seed.index.tolist(), by_seed.to_numpy().tolist(), strict=True)
        of = FEATURES[feature].of
        values = {seed: of(dict(zip(by_place, row, strict=True))) for seed, row in rows}
        defined = {seed: value for seed, value in values.items() if value is not None}
        return Sample(defined) if defined else None


FeatureFunction = Callable[[dict[float, float]], float | None]


def curve_feature(
    name: str, *, words: str, decimals: int | None = None
) -> Callable[[FeatureFunction], FeatureFunction]:
    """Declare a feature of curves: a decorator of the function that computes it from {place: value} of one seed."""

    def declare(of: FeatureFunction) -> FeatureFunction:
        FEATURES.declare(name, Feature(words, decimals, of))
        return of

    return declare


@curve_feature("mean", words="mean")
def mean(values: dict[float, float]) -> float:
    """Return the mean over all places."""
    return math.fsum(values.values()) / len(values)


@curve_feature("peak", words="place of the largest", decimals=2)
def peak(values: dict[float, float]) -> float:
    """Return the place of the largest value."""
    return max(values, key=lambda place: values[place])


@curve_feature("linearity", words="squared correlation with the axis", decimals=4)
def linearity(values: dict[float, float]) -> float | None:
    """Return the squared correlation of place and value; None where all values are the same."""
    places, heights = pd.Series(list(values)), pd.Series(list(values.values()))
    return None if heights.min() == heights.max() else float(places.corr(heights)) ** 2


def lines_of(curves: Mapping[str, Curve], quantities: Sequence[str], *, over: str) -> pd.DataFrame:
    """Return the data of a figure: a row a series, place and quantity; levels have no place.

    Columns: series; the key that is set; quantity; mean, std, ci95, median and n, over the seeds.
    """
    return pd.DataFrame(
        [
            {"series": name, over: place, "quantity": quantity, **_statistics(cells[quantity])}
            for name, curve in curves.items()
            for place, cells in (*curve.points.items(), *([] if curve.level is None else [(None, curve.level)]))
            for quantity in quantities
            if cells.get(quantity) is not None
        ]
    )


def _statistics(cell: Cell) -> dict[str, float | int | None]:
    if isinstance(cell, Sample):
        return {name.removeprefix("_"): value for name, value in cell.columns("").items()}
    return {"mean": number_of(cell), "std": None, "ci95": None, "median": None, "n": None}


def draw_curves(data: pd.DataFrame, panels: Mapping[str, Panel], *, over: str, axis: str, heading: str) -> Figure:
    """Draw data from ``lines_of``, a panel a quantity; points have 95 % intervals, level lines have bands.

    ``over`` is the column of the places, ``axis`` the label of their axis.
    """
    figure, axes = new_panels(1, len(panels), width=3.9, height=3.0)
    step = APART * (data[over].max() - data[over].min()) if data[over].nunique() < MANY_PLACES else 0.0
    for part, (quantity, panel) in zip(axes[0], panels.items(), strict=True):
        of_quantity = data[data["quantity"] == quantity]
        names = data["series"].unique()
        for number, name in enumerate(names):
            series = of_quantity[of_quantity["series"] == name]
            draw = _draw_level if series[over].isna().all() else _draw_curve
            aside = (number - (len(names) - 1) / 2) * step
            draw(part, series.assign(place=series[over] + aside), SeriesStyle.numbered(number), name)
        part.set(xlabel=axis, ylabel=panel.label)
        if panel.label.endswith("%"):
            low, high = part.get_ylim()
            part.set_ylim(max(low, PERCENT[0]), min(high, PERCENT[1]))
    figure.suptitle(heading, fontsize=9)
    legend_below(figure, axes[0][0], columns=min(COLUMNS_OF_LEGEND, data["series"].nunique()))
    return figure


def _draw_curve(axes: Axes, series: pd.DataFrame, style: SeriesStyle, name: str) -> None:
    half = series["ci95"].fillna(0)
    if len(series) < MANY_PLACES:
        axes.errorbar(series["place"], series["mean"], half, **style._asdict(), capsize=2, elinewidth=0.8, label=name)
        return
    marked = range(0, len(series), len(series) // 8)
    axes.plot(series["place"], series["mean"], **style._asdict(), markevery=marked, label=name)
    low, high = series["mean"] - half, series["mean"] + half
    axes.fill_between(series["place"], low, high, color=style.color, alpha=0.15, linewidth=0)


def _draw_level(axes: Axes, series: pd.DataFrame, style: SeriesStyle, name: str) -> None:
    if series.empty:
        return
    mean, half = float(series["mean"].iloc[0]), float(series["ci95"].fillna(0).iloc[0])
    axes.axhline(mean, color=style.color, linestyle=style.linestyle, label=name)
    axes.axhspan(mean - half, mean + half, color=style.color, alpha=0.12, linewidth=0)


def runs_in_words(data: pd.DataFrame) -> str:
    """Return the heading that says over how many runs the means are."""
    counts = sorted({int(count) for count in data["n"].dropna()})
    if not counts or counts == [1]:
        return "a single run each, without an interval"
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"mean and 95 % interval of n = {number} runs"


Place = Callable[[Curve, float], float]
"""Returns the place of a curve that a claim names by a number."""


def judge_curves(
    claims: Sequence[CurveClaim],
    curves: Mapping[str, Curve],
    panels: Mapping[str, Panel],
    *,
    place: Place = lambda _, place: place,
    where: str = "at",
) -> list[Judged]:
    """Judge the claims on curves (by method), whose quantities have panels; ``where`` stands before places in words."""
    return [
        judged(claim.claim, [_judge(check, curves, panels, place, where) for check in claim.checks]) for claim in claims
    ]


def _judge(
    check: CurveCheck, curves: Mapping[str, Curve], panels: Mapping[str, Panel], place: Place, where: str
) -> Finding | Everywhere:
    curve, panel = curves[check.row], panels[check.quantity]
    other = curves[check.other] if isinstance(check.other, str) else None
    if check.feature != "value":
        feature = FEATURES[check.feature]
        words = f"{feature.words} {panel.label} of {check.row}"
        return measured(
            check,
            (words, str(check.other)),
            curve.feature(check.quantity, check.feature),
            other.feature(check.quantity, check.feature) if other else float(check.other),
            decimals=panel.decimals if feature.decimals is None else feature.decimals,
        )
    if check.at == "every":
        shared = curve.points if other is None or other.level is not None else other.points
        places = [shown for shown in curve.points if shown in shared]
        within = "" if check.within is None else f" (within {check.within:g})"
        words = f"{panel.label} of {check.row} {check.relation} {check.other}{within}"
        at_places = (_at(check, curve, panel, other, shown, shown, where) for shown in places)
        return Everywhere(words, tuple(at_places))
    assert check.at is not None
    here = place(curve, check.at)
    there = here
    if other is not None and other.points:
        there = place(other, check.at if check.other_at is None else check.other_at)
    return _at(check, curve, panel, other, here, there, where)


def _at(
    check: CurveCheck, curve: Curve, panel: Panel, other: Curve | None, here: float, there: float, where: str
) -> Finding:
    cell: Cell = other.at(there).get(check.quantity) if other else float(check.other)
    beside = f"{check.other}{'' if here == there else f' {where} {there:g}'}"
    words = f"{panel.label} of {check.row} {where} {here:g}", beside
    return measured(check, words, curve.at(here).get(check.quantity), cell, decimals=panel.decimals)
