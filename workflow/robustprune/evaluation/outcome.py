"""What an evaluation leaves behind: a row for each test image, and the accuracies."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from robustprune.blocks import Columns
from robustprune.evaluation.summary import SUMMARY_FILE, Summary
from robustprune.files import replacing, write_text
from robustprune.pools.format import AnyLabels

DEFINITION = 2

OUTCOME_FILE = "outcome.parquet"


def outcome_table(
    attack: str, rows: AnyLabels, labels: AnyLabels, columns: Columns, breakers: tuple[str, ...]
) -> pa.Table:
    """One row an image.

    Args:
        attack: name of the attack, ``clean`` for none.
        rows: (N,) rows of the test pool.
        labels: (N,) their labels.
        columns: ``clean`` and, under an attack, ``right`` and ``zero_gradient``: (N,) bool; ``broken_by`` where an
            attack is several: (N,) positions in ``breakers``, -1 where none of them broke a right prediction.
        breakers: names of those.

    Returns:
        index int64, label int16, clean bool; ``attack`` bool, true where the image is right under it; zero_gradient
        bool; broken_by string or null.
    """
    table = {"index": pa.array(rows, pa.int64()), "label": pa.array(labels, pa.int16())}
    names = {"clean": "clean", "right": attack, "zero_gradient": "zero_gradient"}
    table |= {names[key]: pa.array(columns[key], pa.bool_()) for key in names if key in columns}
    if "broken_by" in columns:
        named = [breakers[position] if position >= 0 else None for position in columns["broken_by"]]
        table["broken_by"] = pa.array(named, pa.string())
    return pa.table(table)


def summarise(attack: str, columns: Columns, breakers: tuple[str, ...], *, random: bool) -> Summary:
    """Accuracies of ``outcome_table``'s columns, and what makes them doubtful.

    Returns:
        for ``clean`` and ``attack``: accuracy in [0, 1], number of images, and the binomial standard error
        sqrt(p (1 - p) / n); for the attack also zero_gradients (images without a gradient), random (whether the model
        answers at random) and, where Square is one of ``breakers``, square_gain (share of the images it alone broke).
    """
    summary: Summary = {"clean": _accuracy(columns["clean"])}
    if "right" not in columns:
        return summary
    doubts: dict[str, Any] = {"zero_gradients": int(columns["zero_gradient"].sum()), "random": random}
    if "square" in breakers:
        doubts["square_gain"] = float((columns["broken_by"] == breakers.index("square")).mean())
    return {**summary, attack: {**_accuracy(columns["right"]), **doubts}}


def _accuracy(right: npt.NDArray[np.bool_]) -> dict[str, float]:
    accuracy, images = float(right.mean()), len(right)
    return {"accuracy": accuracy, "images": images, "standard_error": (accuracy * (1 - accuracy) / images) ** 0.5}


def write_outcome(directory: Path, table: pa.Table, summary: Summary) -> None:
    """Write outcome.parquet and summary.json into ``directory``."""
    with replacing(directory / OUTCOME_FILE) as temporary:
        pq.write_table(table, temporary)
    write_text(directory / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
