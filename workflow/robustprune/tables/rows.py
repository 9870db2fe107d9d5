"""From evaluations to a table's rows: mean and standard deviation over seeds, beside the printed numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustprune.config import REFERENCE
from robustprune.errors import UserError
from robustprune.specs import RowSpec, TableSpec

DEFINITION = 2

METRICS = {
    "accuracy": "clean",
    "robustness_cw": "cw",
    "robustness_pgd": "pgd",
    "robustness_pgd_50_10": "pgd_50_10",
    "autoattack": "autoattack",
}
"""Our columns, and the attack in an evaluation's summary each comes from."""

COLLAPSE = "catastrophic_overfitting_epoch"
"""What a model's record calls it; see ``training.validation``."""

PRINTED = {
    "accuracy_mean": "accuracy",
    "accuracy_std": "accuracy_std",
    "robustness_cw_mean": "robustness",
    "robustness_cw_std": "robustness_std",
}
"""Our columns, and the printed ones that state the same."""


def table_row(
    spec: TableSpec,
    row: RowSpec,
    *,
    summaries: Sequence[dict[str, Any]],
    models: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """One line of the table; accuracies in percent, std with ddof 1 over seeds.

    Args:
        spec: the table.
        row: the line's spec.
        summaries: summary.json of each seed's evaluation.
        models: the facts in the record of each seed's model; one that was trained elsewhere tells less.
    """
    line: dict[str, Any] = {"method": row.method}
    measured = {column: attack for column, attack in METRICS.items() if attack in summaries[0]}
    for column, attack in measured.items():
        values = [100 * summary[attack]["accuracy"] for summary in summaries]
        line[f"{column}_mean"] = round(float(np.mean(values)), 2)
        line[f"{column}_std"] = round(float(np.std(values, ddof=1)), 2) if len(values) > 1 else None
    line["seeds"] = len(summaries)
    line["test_images"] = summaries[0]["clean"]["images"]
    line["autoattack_images"] = summaries[0]["autoattack"]["images"] if "autoattack" in summaries[0] else None
    line["images_kept"] = models[0].get("images_kept")
    seconds = [facts["training_seconds"] for facts in models if "training_seconds" in facts]
    line["training_seconds_mean"] = round(float(np.mean(seconds)), 1) if seconds else None
    line["collapsed_runs"] = _collapsed(models)
    return {**line, **_printed(spec, row)}


def _collapsed(models: Sequence[dict[str, Any]]) -> int | None:
    """Runs that overfitted catastrophically; None where that was not watched for."""
    if any(COLLAPSE not in facts for facts in models):
        return None
    return sum(facts[COLLAPSE] is not None for facts in models)


def _printed(spec: TableSpec, row: RowSpec) -> dict[str, Any]:
    if spec.printed_file is None:
        return {}
    numbers = read_printed(REFERENCE / spec.printed_file)
    if row.printed is not None and row.printed not in numbers.index:
        raise UserError(f"{spec.printed_file} has no method {row.printed!r}; it has {', '.join(numbers.index)}")
    values: dict[Any, Any] = {} if row.printed is None else numbers.loc[row.printed].to_dict()
    return {f"paper_{spec.printed_setting}_{ours}": values.get(theirs) for ours, theirs in PRINTED.items()}


def read_printed(path: Path) -> pd.DataFrame:
    """The numbers a paper prints, in percent, one row a method."""
    return pd.read_csv(path).set_index("method")
