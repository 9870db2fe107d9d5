"""The stage that makes a table."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from robustprune.core.files import replacing, write_text
from robustprune.core.job import Job
from robustprune.experiments.runs import RowRuns
from robustprune.experiments.tables.claims import judge
from robustprune.experiments.tables.rendering import latex, markdown, shown_table
from robustprune.experiments.tables.rows import Shown, line_of, row_of, without_empty_columns
from robustprune.experiments.tables.specs import RowSpec, TableStage

TABLE_FILE, MARKDOWN_FILE, LATEX_FILE = "table.csv", "table.md", "table.tex"
SHOWN_FILE = "table.json"  # for the report


def run(job: Job, spec: TableStage) -> dict[str, Any]:
    """Write table.csv, one line a row, ours and the printed numbers in columns of their own; and the same for people.

    Returns:
        title, number of rows, and for each claim of the paper what was found and whether this run agrees.

    Raises:
        UserError: where the printed numbers have no row of the name that a row gives.
    """
    chance = 100 / spec.classes
    rows = without_empty_columns(
        [row_of(spec, row, RowRuns(job, row, chance=chance, compared=spec.compared)) for row in spec.rows]
    )
    cells = {row.method: row.cells for row in rows}
    lines = [line_of(spec, row, _baseline(of, cells)) for of, row in zip(spec.rows, rows, strict=True)]
    judged = [judge(claim, cells) for claim in spec.claims]
    with replacing(job.partial / TABLE_FILE) as temporary:
        pd.DataFrame(lines).convert_dtypes().to_csv(temporary, index=False)
    shown = shown_table(spec, rows, judged)
    write_text(job.partial / SHOWN_FILE, shown.model_dump_json(indent=1) + "\n")
    write_text(job.partial / MARKDOWN_FILE, markdown(shown))
    write_text(job.partial / LATEX_FILE, latex(shown))
    job.publish(TABLE_FILE, SHOWN_FILE, MARKDOWN_FILE, LATEX_FILE)
    return {"title": spec.title, "rows": len(lines), "claims": [asdict(one) for one in judged]}


def _baseline(row: RowSpec, cells: Mapping[str, Shown]) -> Shown:
    """The cells that a row's are compared with: none for the baseline itself."""
    return {} if row.baseline in (None, row.method) else cells[str(row.baseline)]
