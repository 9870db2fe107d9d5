"""Forgetting events: how often a right answer turns wrong."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.scores.metric import Metric, metric
from robustprune.scores.trajectory import Recorded, Score

DEFINITION = {"scores.metrics": 1}


@metric("forgetting", recipe="standard")
class ForgettingSettings(Metric):
    """Forgetting events of Toneva et al. (2019): how often a right answer turns wrong."""

    unit = "times"
    sign = "0 was learnt and never forgotten, an easy image; infinite was never learnt"
    reads = "correct"

    metric: Literal["forgetting"] = Field("forgetting", description="the metric's own name")

    def score(self, trainings: Sequence[Recorded]) -> Score:
        """Return how often each image is forgotten."""
        return forgetting(trainings[0].values)


def forgetting(correct: npt.NDArray[np.bool_]) -> Score:
    """Return how often an image goes from right to wrong from one recorded epoch to the next.

    https://arxiv.org/abs/1812.05159, Section 3. An image that is never right counts as forgotten infinitely often.

    Args:
        correct: (T, N) whether the largest logit was the label's.

    Returns:
        (N,) whole numbers, or infinity.
    """
    events = np.count_nonzero(correct[:-1] & ~correct[1:], axis=0)
    return np.where(correct.any(axis=0), events, np.inf).astype(np.float32)
