"""Results side by side."""

from typing import Literal

from pydantic import Field

from robustprune.settings import Settings
from robustprune.specs.base import Spec, StageId


class RowSpec(Settings):
    """One line of a table: a method, and its runs, one a seed."""

    method: str
    models: tuple[StageId, ...]
    evaluations: tuple[tuple[StageId, ...], ...] = Field(description="of each run, one stage an attack")
    printed: str | None = Field(description="the method's name in the file of printed numbers")


class TableSpec(Spec):
    """A table of a paper: our rows beside the printed ones."""

    room = "tables.stage"
    modules = ("tables.rows",)
    kind: Literal["tables"] = "tables"
    name: str
    title: str
    printed_file: str | None
    printed_digest: str | None = Field(description="SHA-256 of that file, so that a corrected number makes a new table")
    printed_setting: str
    rows: tuple[RowSpec, ...]

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").replace(".", "-")

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        stages = [("models", model) for row in self.rows for model in row.models]
        stages += [("evaluations", attack) for row in self.rows for run in row.evaluations for attack in run]
        return tuple(dict.fromkeys(stages))
