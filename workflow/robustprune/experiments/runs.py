"""What the stages of a run have left behind."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from robustprune.core.paths import HISTORY_FILE
from robustprune.core.record import read_record
from robustprune.evaluation.summary import Summary, read_outcomes, read_summaries

if TYPE_CHECKING:
    from robustprune.core.job import Job
    from robustprune.experiments.tables.quantity import AccuracyName
    from robustprune.experiments.tables.row_specs import RowSpec, RunSpec

DEFINITION = {"evaluation.summary": 1}


class Run:
    """One seed of a method. What is not there is empty.

    Args:
        job: the running stage, which knows where others are.
        spec: the run's stages.
    """

    def __init__(self, job: Job, spec: RunSpec) -> None:
        self._job, self._spec = job, spec
        self.seed = spec.seed

    @cached_property
    def evaluation(self) -> Summary:
        """For ``clean`` and each attack: accuracy in [0, 1], number of images, and what makes it doubtful."""
        return read_summaries(self._job.upstream("evaluations", stage) for stage in self._spec.evaluations)

    def right(self, attack: str) -> npt.NDArray[np.bool_] | None:
        """Return (N,) bool: which test images are right under an attack, or under ``clean``; None if not measured."""
        found = (self._job.upstream("evaluations", stage) for stage in self._spec.evaluations)
        outcomes = [of_images for directory in found if (of_images := read_outcomes(directory, attack)) is not None]
        return max(outcomes, key=len, default=None)

    @cached_property
    def training(self) -> dict[str, Any]:
        """Facts of the model's record; one that was trained elsewhere has fewer."""
        return self._facts("models", self._spec.model)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row an epoch; none where the model was trained elsewhere."""
        stage = self._spec.model
        path = None if stage is None else self._job.upstream("models", stage) / HISTORY_FILE
        return pd.DataFrame() if path is None or not path.is_file() else pd.read_parquet(path)

    @cached_property
    def layout(self) -> dict[str, Any]:
        """Facts of the layout's record."""
        return self._facts("layouts", self._spec.layout)

    @cached_property
    def score(self) -> dict[str, Any]:
        """Facts of the score's record."""
        return self._facts("scores", self._spec.score)

    def _facts(self, kind: str, stage: str | None) -> dict[str, Any]:
        return {} if stage is None else read_record(self._job.upstream(kind, stage)).facts


class RowRuns:
    """The runs of a row, and those that they are compared with.

    Args:
        job: the running stage.
        spec: the row.
        chance: accuracy of guessing, in percent.
        compared: what a row of a table of comparisons compares.
    """

    def __init__(self, job: Job, spec: RowSpec, *, chance: float, compared: AccuracyName | None) -> None:
        self.runs = [Run(job, run) for run in spec.runs]
        self.against = [Run(job, run) for run in spec.against]
        self.told, self.chance, self.compared = spec.told, chance, compared
