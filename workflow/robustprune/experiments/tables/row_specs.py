"""Printed numbers and claims beside a table, and the specification of its rows."""

from typing import Annotated

from pydantic import Field

from robustprune.core.marks import Ref
from robustprune.core.settings import Line, Settings
from robustprune.core.stage import EvaluationId, ModelId, ScoreId, StageId
from robustprune.experiments.claim_settings import Relation
from robustprune.experiments.tables.quantity import QuantityName
from robustprune.images.settings import DataName

Cells = str | dict[str, str]
"""Which printed row: the text in the file's first column, or in each of some columns."""


class Printed(Settings):
    """The numbers that a paper prints."""

    file: str = Field(pattern=r"^\w+\.csv$", description="in workflow/reference")
    setting: Line = Field(description="what they were measured on and with, for readers")
    beside: dict[QuantityName, str] = Field(description="the file's column that stands beside a quantity of ours")
    instead: dict[DataName, dict[str, str | None]] = Field(
        {},
        description="by the name of our data set: cells of the file that stand in for those that rows name; null: none",
    )


class Check(Relation):
    """One inequality between two rows of a table, or between a row and a number."""

    quantity: QuantityName
    row: str = Field(description="method of the row")


class RunSpec(Settings):
    """One seed's model and measurements of a row's method."""

    seed: int
    model: ModelId | None = None
    evaluations: tuple[EvaluationId, ...] = Field((), description="of the model, one an attack")
    score: ScoreId | None = None
    layout: Annotated[StageId, Ref("layouts")] | None = None


class RowSpec(Settings):
    """One line of a table: a method, and its runs, one a seed."""

    method: str
    runs: tuple[RunSpec, ...] = ()
    against: tuple[RunSpec, ...] = Field((), description="the runs that its own are compared with")
    baseline: str | None = Field(None, description="the method that ``against`` is of, where it is a row of the table")
    told: dict[QuantityName, str] = Field({}, description="cells that are known before anything runs")
    printed: Cells | None = Field(None, description="the row of the printed numbers that stands beside")
