"""The tables of the papers as data: rows in the papers' own terms, read from ``workflow/experiments``."""

from robustprune.experiments.files import Experiments, load_experiments
from robustprune.experiments.rows import Row
from robustprune.experiments.tables import (
    AnyTable,
    Comparisons,
    Extrapolations,
    Hyperparameters,
    Layouts,
    Table,
)

__all__ = [
    "AnyTable",
    "Comparisons",
    "Experiments",
    "Extrapolations",
    "Hyperparameters",
    "Layouts",
    "Row",
    "Table",
    "load_experiments",
]
