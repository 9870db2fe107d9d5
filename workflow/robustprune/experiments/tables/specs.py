"""Results side by side."""

from typing import Literal

from pydantic import Field

from robustprune.core.settings import Settings
from robustprune.core.stage import Stage, StageId
from robustprune.experiments.tables.settings import AccuracyName, Cells, Check, Claim, Form, Printed, QuantityName


class RunSpec(Settings):
    """What there is of a row's method for one seed."""

    seed: int
    model: StageId | None = None
    evaluations: tuple[StageId, ...] = Field((), description="of the model, one an attack")
    score: StageId | None = None
    layout: StageId | None = None

    @property
    def upstream(self) -> list[tuple[str, str]]:
        """(kind, id) of each of its stages."""
        single = {"models": self.model, "scores": self.score, "layouts": self.layout}
        stages = [(kind, stage) for kind, stage in single.items() if stage is not None]
        return stages + [("evaluations", stage) for stage in self.evaluations]


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

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        runs = [run for row in self.rows for run in (*row.runs, *row.against)]
        return tuple(dict.fromkeys(pair for run in runs for pair in run.upstream))
