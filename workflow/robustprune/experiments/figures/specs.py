"""Pictures, each with its data and a caption."""

from typing import Literal, NamedTuple

from pydantic import Field

from robustprune.core.settings import Settings
from robustprune.core.stage import ScoreId, Stage
from robustprune.experiments.tables.specs import RunSpec


class Panel(NamedTuple):
    """A quantity as it is shown.

    Attributes:
        label: what it is, with its unit.
        decimals: digits behind the point that are worth showing.
    """

    label: str
    decimals: int


class FigureStage(Stage):
    """What every figure has."""

    local = True
    files = ("figure.svg", "figure.csv", "caption.md")
    kind: Literal["figures"] = "figures"
    name: str
    title: str

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").replace(".", "-")


OF_CURVES = (
    "figures.claims",
    "figures.curves",
    "figures.lines",
    "figures.style",
    "tables.cells",
    "tables.claims",
    "tables.quantities",
    "tables.statistics",
)


class PointSpec(Settings):
    """A method with its key set to a value: its runs, one a seed."""

    place: float
    runs: tuple[RunSpec, ...]


class SeriesSpec(Settings):
    """A method: a point for each value of the key, or one set of runs for them all."""

    method: str
    points: tuple[PointSpec, ...] = ()
    level: tuple[RunSpec, ...] = ()

    @property
    def runs(self) -> tuple[RunSpec, ...]:
        """All of them."""
        return (*(run for point in self.points for run in point.runs), *self.level)


OF_SCORES = ("figures.claims", "figures.measures", "figures.style", "tables.claims")


class ScoreSeries(Settings):
    """A method, and its scores of each pool that it learns from."""

    method: str
    scores: tuple[ScoreId, ...] = Field(min_length=1)
