"""The tables and figures of the papers as data: rows in the papers' own terms, read from ``workflow/experiments``."""

from robustprune.experiments.figures import (
    AnyFigure,
    CloudsFigure,
    Courses,
    Curves,
    Distributions,
    FeatureModelFigure,
    LayoutsFigure,
    LossDistance,
    Neighbours,
    Overlaps,
    PerceptronFigure,
    PhaseMap,
    Scatter,
    Trajectories,
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
    "Distributions",
    "Experiments",
    "Extrapolations",
    "FeatureModelFigure",
    "Hyperparameters",
    "Layouts",
    "LayoutsFigure",
    "LossDistance",
    "Neighbours",
    "Overlaps",
    "PerceptronFigure",
    "PhaseMap",
    "Row",
    "Scatter",
    "Table",
    "Trajectories",
    "load_experiments",
    "load_figures",
]
