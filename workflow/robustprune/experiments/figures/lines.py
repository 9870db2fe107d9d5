"""Curves of quantities: what they are, how they are told as data, and how they are drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustprune.experiments.cells import Cell, Sample, number_of
from robustprune.experiments.figures.style import Series, legend_below, new_panels

if TYPE_CHECKING:
    from robustprune.experiments.figures.figure import Panel
    from robustprune.experiments.figures.of_runs import Feature

DEFINITION = {"figures.lines": 2}

COLUMNS_OF_LEGEND = 4
MANY_PLACES = 25  # from which on a curve has a band and few markers
APART = 0.01  # of the axis, between the points of neighbouring curves at one place, so that intervals can be told apart
PERCENT = (-2.0, 102.0)  # what is shown of an axis of percentages, however wide the intervals

Cells = Mapping[str, Cell]
"""By the name of the quantity."""


@dataclass(frozen=True)
class Curve:
    """What was measured of a method.

    Attributes:
        points: its cells at each place of the axis, ascending; none where they are the same everywhere.
        level: its cells where they are.
    """

    points: Mapping[float, Cells]
    level: Cells | None = None

    def at(self, place: float) -> Cells:
        """Its cells at a place of the axis; none where it has no such place."""
        return self.points.get(place, {}) if self.level is None else self.level

    def feature(self, quantity: str, feature: Feature) -> Cell:
        """A feature of its whole course, one for each seed; of a level its value, as far as it has that feature."""
        if self.level is not None:
            return self.level.get(quantity) if feature == "mean" else None
        cells = {place: cells.get(quantity) for place, cells in self.points.items()}
        by_place = {place: pd.Series(cell.values) for place, cell in cells.items() if isinstance(cell, Sample)}
        if len(by_place) < len(cells):
            return None
        courses = pd.DataFrame(by_place).dropna()  # a row a seed
        rows = zip(courses.index.tolist(), courses.to_numpy().tolist(), strict=True)
        found = {seed: FEATURES[feature](dict(zip(by_place, row, strict=True))) for seed, row in rows}
        told = {seed: value for seed, value in found.items() if value is not None}
        return Sample(told) if told else None


def _linearity(course: Mapping[float, float]) -> float | None:
    """Squared correlation of place and value; None where all values are the same."""
    places, values = pd.Series(list(course)), pd.Series(list(course.values()))
    return None if values.min() == values.max() else float(places.corr(values)) ** 2


FEATURES: Mapping[str, Any] = {
    "mean": lambda course: math.fsum(course.values()) / len(course),
    "peak": lambda course: max(course, key=lambda place: course[place]),
    "linearity": _linearity,
}
"""What there is to tell of a course, {place: value} of one seed."""


def lines_of(curves: Mapping[str, Curve], quantities: Sequence[str], *, over: str) -> pd.DataFrame:
    """The data of a figure: a row a series, place and quantity; levels have no place.

    Columns: series; the key that is set; quantity; mean, std, ci95, median and n, over the seeds.
    """
    return pd.DataFrame(
        [
            {"series": name, over: place, "quantity": quantity, **_told(cells[quantity])}
            for name, curve in curves.items()
            for place, cells in _placed(curve)
            for quantity in quantities
            if cells.get(quantity) is not None
        ]
    )


def _placed(curve: Curve) -> Iterator[tuple[float | None, Cells]]:
    yield from curve.points.items()
    if curve.level is not None:
        yield None, curve.level


def _told(cell: Cell) -> dict[str, float | int | None]:
    if isinstance(cell, Sample):
        return {name.removeprefix("_"): value for name, value in cell.summary.columns("").items()}
    return {"mean": number_of(cell), "std": None, "ci95": None, "median": None, "n": None}


def draw_curves(data: pd.DataFrame, panels: Mapping[str, Panel], *, over: str, axis: str, heading: str) -> Figure:
    """A panel a quantity; points have 95 % intervals, level lines bands of them.

    Args:
        data: as ``lines_of`` has it.
        panels: by quantity.
        over: the column of the places.
        axis: what stands at the axis of the places.
        heading: above all panels.
    """
    figure, axes = new_panels(1, len(panels), width=3.9, height=3.0)
    step = APART * (data[over].max() - data[over].min()) if data[over].nunique() < MANY_PLACES else 0.0
    for own, (quantity, panel) in zip(axes[0], panels.items(), strict=True):
        of_quantity = data[data["quantity"] == quantity]
        names = data["series"].unique()
        for number, name in enumerate(names):
            series = of_quantity[of_quantity["series"] == name]
            draw = _draw_level if series[over].isna().all() else _draw_curve
            aside = (number - (len(names) - 1) / 2) * step
            draw(own, series.assign(place=series[over] + aside), Series.numbered(number), name)
        own.set(xlabel=axis, ylabel=panel.label)
        if panel.label.endswith("%"):
            low, high = own.get_ylim()
            own.set_ylim(max(low, PERCENT[0]), min(high, PERCENT[1]))
    figure.suptitle(heading, fontsize=9)
    legend_below(figure, axes[0][0], columns=min(COLUMNS_OF_LEGEND, data["series"].nunique()))
    return figure


def _draw_curve(axes: Axes, series: pd.DataFrame, style: Series, name: str) -> None:
    half = series["ci95"].fillna(0)
    if len(series) < MANY_PLACES:
        axes.errorbar(
            series["place"], series["mean"], half, color=style.color, marker=style.marker, linestyle=style.line,
            capsize=2, elinewidth=0.8, label=name,
        )  # fmt: skip
        return
    marked = range(0, len(series), len(series) // 8)
    axes.plot(
        series["place"], series["mean"], color=style.color, linestyle=style.line, marker=style.marker, markevery=marked,
        label=name,
    )  # fmt: skip
    low, high = series["mean"] - half, series["mean"] + half
    axes.fill_between(series["place"], low, high, color=style.color, alpha=0.15, linewidth=0)


def _draw_level(axes: Axes, series: pd.DataFrame, style: Series, name: str) -> None:
    if series.empty:
        return
    mean, half = float(series["mean"].iloc[0]), float(series["ci95"].fillna(0).iloc[0])
    axes.axhline(mean, color=style.color, linestyle=style.line, label=name)
    axes.axhspan(mean - half, mean + half, color=style.color, alpha=0.12, linewidth=0)


def runs_in_words(data: pd.DataFrame) -> str:
    """Over how many runs the means are."""
    counts = sorted({int(count) for count in data["n"].dropna()})
    if not counts or counts == [1]:
        return "a single run each, without an interval"
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"mean and 95 % interval of n = {number} runs"
