"""EL2N: the size of the error early in training."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.scores.metric import Metric, Recorded, Score, metric

DEFINITION = {"scores.metrics": 1}


@metric("el2n", recipe="standard")
class El2nSettings(Metric):
    """EL2N of Paul et al. (2021): the size of the error early in training, averaged over the seeds' models."""

    unit = "L2 norm of softmax - one-hot label"
    sign = "0 was learnt early, an easy image; sqrt 2 is sure of another class"
    reads = "error"
    of_every_seed = True

    metric: Literal["el2n"] = Field("el2n", description="name of the metric")
    after: float = Field(
        0.1, gt=0, le=1, description="share of the epochs after which it is measured (Paul et al.: 20 of 200)"
    )

    def score(self, trainings: Sequence[Recorded]) -> Score:
        """Return the mean error at the recorded epoch nearest to that share of each training, the earlier of two."""
        return el2n([errors[np.argmin(np.abs(after - self.after * after[-1]))] for errors, after in trainings])


def el2n(errors: Sequence[npt.NDArray[Any]]) -> Score:
    """Return the mean over models of the L2 norm of softmax - one-hot label early in training.

    https://arxiv.org/abs/2107.07075. ``errors``: (N,) in [0, sqrt 2] for each model. Returns (N,) in [0, sqrt 2].
    """
    return np.asarray(np.mean(np.stack(errors), axis=0, dtype=np.float64), dtype=np.float32)
