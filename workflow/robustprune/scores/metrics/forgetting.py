"""Forgetting events: how often a right answer turns wrong."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.scores.metric import Metric, Recorded, Score, metric

DEFINITION = {"scores.metrics": 1}


@metric("forgetting", recipe="standard")
class ForgettingSettings(Metric):
    """Forgetting events of Toneva et al. (2019): how often a right answer turns wrong."""

    unit = "times"
    sign = "0 was learnt and never forgotten, an easy image; infinite was never learnt"
    reads = "correct"

    metric: Literal["forgetting"] = Field("forgetting", description="name of the metric")

    def score(self, trainings: Sequence[Recorded]) -> Score:
        """Return how often each image is forgotten."""
        return forgetting(trainings[0].values)


def forgetting(correct: npt.NDArray[np.bool_]) -> Score:
    """Return how often an image goes from right to wrong between recorded epochs; infinity if it is never right.

    https://arxiv.org/abs/1812.05159, Section 3. ``correct``: (T, N), True where the largest logit is the label's.
    """
    events = np.count_nonzero(correct[:-1] & ~correct[1:], axis=0)
    return np.where(correct.any(axis=0), events, np.inf).astype(np.float32)
