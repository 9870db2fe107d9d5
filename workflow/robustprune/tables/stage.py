"""The stage that makes a table."""

from typing import Any

import pandas as pd

from robustprune.evaluation.outcome import read_summaries
from robustprune.files import replacing
from robustprune.job import Job
from robustprune.record import read_record
from robustprune.specs import RowSpec, TableSpec
from robustprune.tables.rows import table_row

TABLE_FILE = "table.csv"


def run(job: Job, spec: TableSpec) -> dict[str, Any]:
    """Write table.csv: one line a method, ours and the printed numbers in columns of their own."""
    rows = [_row(job, spec, row) for row in spec.rows]
    with replacing(job.partial / TABLE_FILE) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    job.publish(TABLE_FILE)
    return {"title": spec.title, "rows": len(rows)}


def _row(job: Job, spec: TableSpec, row: RowSpec) -> dict[str, Any]:
    evaluations = [[job.upstream("evaluations", attack) for attack in run] for run in row.evaluations]
    models = [read_record(job.upstream("models", model)).facts for model in row.models]
    return table_row(
        spec,
        row,
        summaries=[read_summaries(run) for run in evaluations],
        models=models,
    )
