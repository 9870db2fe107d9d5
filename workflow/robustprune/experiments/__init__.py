"""The tables of the papers as data: rows in the papers' own terms, read from ``workflow/experiments``."""

from robustprune.experiments.figures import (
    AnyFigure,
    CloudsFigure,
    Courses,
    Curves,
    FeatureModelFigure,
    LayoutsFigure,
    LossDistance,
    PerceptronFigure,
    PhaseMap,
)
from robustprune.experiments.files import Experiments, load_experiments, load_figures
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
    "AnyFigure",
    "AnyTable",
    "CloudsFigure",
    "Comparisons",
    "Courses",
    "Curves",
    "Experiments",
    "Extrapolations",
    "FeatureModelFigure",
    "Hyperparameters",
    "Layouts",
    "LayoutsFigure",
    "LossDistance",
    "PerceptronFigure",
    "PhaseMap",
    "Row",
    "Table",
    "load_experiments",
    "load_figures",
]
