"""Cells of tables: a number for each run, a number or text alone, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from robustprune.experiments.statistics import Summary

DEFINITION = {"tables.cells": 2}


@dataclass(frozen=True)
class Sample:
    """A number for each run of a method.

    Attributes:
        values: by the run's seed, at least one.
        tied: whether they are differences whose spread is not known (``statistics.tie``).
    """

    values: Mapping[int, float]
    tied: bool = False

    @property
    def summary(self) -> Summary:
        """Mean, spread and number of runs."""
        summary = Summary.of(list(self.values.values()))
        return summary.without_spread() if self.tied else summary


Cell = Sample | float | int | str | None
"""None where a run does not tell."""


def number_of(cell: Cell) -> float | None:
    """The one number that stands for a cell: the mean over runs, or the number itself; None for text or nothing."""
    if isinstance(cell, Sample):
        return cell.summary.mean
    return None if cell is None or isinstance(cell, str) else float(cell)
