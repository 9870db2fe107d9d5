"""The accuracies that an evaluation found, and what makes them doubtful. Quick to import, since every table does."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from robustprune.core.errors import UserError

SUMMARY_FILE, OUTCOME_FILE = "summary.json", "outcome.parquet"
SQUARE_GAIN = 0.002
"""Share of the images that Square may break after gradient attacks before AutoAttack warns of masked gradients."""

Summary = dict[str, dict[str, Any]]
"""For ``clean`` and each attack: accuracy, images, standard error, and what makes it doubtful."""


def doubts(summary: Summary) -> list[str]:
    """A sentence for each thing that makes an attack's number doubtful."""
    sentences = []
    for attack, found in summary.items():
        if found.get("zero_gradients"):
            sentences.append(
                f"{attack}: {found['zero_gradients']} of {found['images']} images have a gradient of 0 at the start"
            )
        if found.get("random"):
            sentences.append(f"{attack}: the model answers at random, so its robustness is overstated")
        if found.get("square_gain", 0.0) > SQUARE_GAIN:
            sentences.append(
                f"{attack}: Square broke {100 * found['square_gain']:.1f} points that attacks by gradient did not, so "
                "gradients may be masked and an adaptive attack may break more"
            )
    return sentences


def read_outcomes(directory: Path, attack: str) -> npt.NDArray[np.bool_] | None:
    """Return (N,) bool: which test images are right under an attack; None if the evaluation in a directory has others.

    Raises:
        UserError: where the file is damaged.
    """
    path = directory / OUTCOME_FILE
    try:
        with pq.ParquetFile(path) as file:
            if attack not in file.schema_arrow.names:
                return None
            right: npt.NDArray[np.bool_] = file.read([attack])[attack].to_numpy()
            return right
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def read_summaries(directories: Iterable[Path]) -> Summary:
    """Return what the evaluations of one model found, one an attack; the clean accuracy is that of the most images."""
    together: Summary = {}
    for directory in directories:
        summary: Summary = json.loads((directory / SUMMARY_FILE).read_text())
        if "clean" in together and together["clean"]["images"] >= summary["clean"]["images"]:
            del summary["clean"]
        together |= summary
    return together
