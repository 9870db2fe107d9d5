"""The stage that makes a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from robustprune.core.files import replacing, write_text
from robustprune.core.job import Job
from robustprune.core.stage import Stage
from robustprune.experiments.claim_settings import Claim
from robustprune.experiments.tables.quantity import AccuracyName, Form, QuantityName
from robustprune.experiments.tables.row_specs import Check, Printed, RowSpec

if TYPE_CHECKING:
    from robustprune.experiments.tables.table_rows import Shown


TABLE_FILE, MARKDOWN_FILE, LATEX_FILE = "table.csv", "table.md", "table.tex"

SHOWN_FILE = "table.json"  # for the report


class TableStage(Stage):
    """A table: our rows beside the printed ones."""

    sentence = "our numbers beside the printed ones, and whether they agree with the claims"
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
    spread: str = Field("", description="what differs between the runs of a row, for readers")
    rows: tuple[RowSpec, ...]

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").replace(".", "-")

    def run(self, job: Job) -> dict[str, Any]:
        """Write table.csv, with printed numbers in columns of their own, and the same as Markdown and LaTeX.

        Returns:
            title, number of rows, and for each claim of the paper what was found and whether this run agrees.

        Raises:
            UserError: where the printed numbers have no row of the name that a row gives.
        """
        import pandas as pd

        from robustprune.experiments.runs import RowRuns
        from robustprune.experiments.tables.rendering import latex, markdown, shown_table
        from robustprune.experiments.tables.table_rows import judge, line_of, row_of, without_empty_columns

        chance = 100 / self.classes
        rows = without_empty_columns(
            [row_of(self, row, RowRuns(job, row, chance=chance, compared=self.compared)) for row in self.rows]
        )
        cells = {row.method: row.cells for row in rows}
        lines = [line_of(self, row, _baseline(of, cells)) for of, row in zip(self.rows, rows, strict=True)]
        judged = [judge(claim, cells) for claim in self.claims]
        with replacing(job.partial / TABLE_FILE) as temporary:
            pd.DataFrame(lines).convert_dtypes().to_csv(temporary, index=False)
        shown = shown_table(self, rows, judged)
        write_text(job.partial / SHOWN_FILE, shown.model_dump_json(indent=1) + "\n")
        write_text(job.partial / MARKDOWN_FILE, markdown(shown))
        write_text(job.partial / LATEX_FILE, latex(shown))
        job.publish(TABLE_FILE, SHOWN_FILE, MARKDOWN_FILE, LATEX_FILE)
        return {"title": self.title, "rows": len(lines), "claims": [asdict(one) for one in judged]}


def _baseline(row: RowSpec, cells: Mapping[str, Shown]) -> Shown:
    """The cells that a row's are compared with: none for the baseline itself."""
    return {} if row.baseline in (None, row.method) else cells[str(row.baseline)]
