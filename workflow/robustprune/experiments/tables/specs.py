"""Results side by side."""

from typing import Annotated, Literal

from pydantic import Field

from robustprune.core.marks import Ref
from robustprune.core.settings import Settings
from robustprune.core.stage import EvaluationId, ModelId, ScoreId, Stage, StageId
from robustprune.experiments.tables.settings import AccuracyName, Cells, Check, Claim, Form, Printed, QuantityName


class RunSpec(Settings):
    """What there is of a row's method for one seed."""

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


class TableStage(Stage):
    """A table: our rows beside the printed ones."""

    room = "experiments.tables.stage"
    modules = (
        "evaluation.summary",
        "tables.cells",
        "tables.claims",
        "tables.printed",
        "tables.quantities",
        "tables.rendering",
        "tables.rows",
        "tables.speed",
        "tables.statistics",
    )
    local = True
    files = ("table.csv", "table.md", "table.tex")
    kind: Literal["tables"] = "tables"
    name: str
    title: str
    form: Form
    quantities: tuple[QuantityName, ...]
    classes: int = Field(description="of the data, for the accuracy of guessing")
    compared: AccuracyName | None = Field(None, description="what a table of comparisons compares")
    printed: Printed | None
    printed_digest: str | None = Field(description="digest of that file, so that a corrected number makes a new table")
    claims: tuple[Claim[Check], ...]
    setting: str = Field("", description="what ours are measured on and with, for readers")
    rows: tuple[RowSpec, ...]

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").replace(".", "-")
