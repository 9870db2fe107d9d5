"""CD: how often an image is misclassified over the epochs."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.scores.metric import Metric, Recorded, Score, Trajectory, evenly_spaced, metric

DEFINITION = {"scores.metrics": 1}


@metric("difficulty", recipe="trades")
class DifficultySettings(Metric):
    """CD of PUMA, Eq. 1: how often an image is misclassified over the epochs. See papers.md, P13."""

    unit = "share of epochs misclassified"
    sign = "0 was always right, an easy image; 1 was never right"
    reads = "correct"

    metric: Literal["difficulty"] = Field("difficulty", description="name of the metric")
    weights: Literal["raw", "averaged"] = Field("averaged", description="the recorded model whose answers count")
    checkpoints: int | None = Field(
        None, ge=1, description="recorded epochs looked at, evenly spaced; null for all (PUMA: CD < 0.02 needs 50)"
    )

    def score(self, trainings: Sequence[Recorded]) -> Score:
        """Return the share of the chosen epochs after which each image is misclassified."""
        correct, epochs = trainings[0].values, len(trainings[0].values)
        return difficulty(correct[np.array(evenly_spaced(epochs, self.checkpoints or epochs)) - 1])

    def trajectory(self, declared: Trajectory) -> Trajectory:
        """Return the trajectory of the chosen weights."""
        return "clean_averaged" if self.weights == "averaged" else declared

    def problem(self, epochs: int) -> str | None:
        """Return a problem if fewer epochs are recorded than chosen."""
        if (self.checkpoints or 0) > epochs:
            return f"dynamics.difficulty.checkpoints = {self.checkpoints}, but only {epochs} epochs are recorded"
        return None


def difficulty(correct: npt.NDArray[np.bool_]) -> Score:
    """Return the share of epochs after which an image is misclassified: PUMA, Eq. 1 (after Dong et al. 2021).

    ``correct``: (T, N), True where the largest logit is the label's. Returns (N,) in [0, 1].
    """
    return np.asarray(np.mean(~correct, axis=0, dtype=np.float32))
