"""Results side by side."""

from typing import Annotated

from pydantic import Field

from robustprune.core.marks import Ref
from robustprune.core.settings import Settings
from robustprune.core.stage import EvaluationId, ModelId, ScoreId, StageId
from robustprune.experiments.tables.quantity import QuantityName
from robustprune.experiments.tables.settings import Cells


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
