"""What an evaluation leaves behind: a row for each test image, and the accuracies."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from robustprune.blocks import Columns
from robustprune.files import replacing, write_text

DEFINITION = 1

OUTCOME_FILE, SUMMARY_FILE = "outcome.parquet", "summary.json"
ATTACKS = ("clean", "pgd", "autoattack")


def outcome_table(labels: npt.NDArray[np.integer[Any]], right: Columns) -> pa.Table:
    """One row an image: index int64, label int16, and for each attack a bool, true where the image is still right.

    Args:
        labels: (N,) labels of the first N images of the test pool.
        right: for each of ATTACKS, a bool array of at most N; images behind its end were not attacked and become null.
    """
    columns = {"index": pa.array(range(len(labels)), pa.int64()), "label": pa.array(labels, pa.int16())}
    for attack in ATTACKS:
        left_out = [None] * (len(labels) - len(right[attack]))
        columns[attack] = pa.array([*right[attack].tolist(), *left_out], pa.bool_())
    return pa.table(columns)


def summarise(right: Columns) -> dict[str, dict[str, float]]:
    """For each attack: accuracy in [0, 1], number of images, and the standard error sqrt(p (1 - p) / n)."""
    return {attack: _accuracy(right[attack].astype(np.float64)) for attack in ATTACKS}


def _accuracy(right: npt.NDArray[np.float64]) -> dict[str, float]:
    accuracy, images = float(right.mean()), len(right)
    return {"accuracy": accuracy, "images": images, "standard_error": (accuracy * (1 - accuracy) / images) ** 0.5}


def write_outcome(directory: Path, table: pa.Table, summary: dict[str, dict[str, float]]) -> None:
    """Write outcome.parquet and summary.json into ``directory``."""
    with replacing(directory / OUTCOME_FILE) as temporary:
        pq.write_table(table, temporary)
    write_text(directory / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
