"""DU: the standard deviation of the label's probability within windows of epochs."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.scores.metric import Metric, Recorded, Score, metric

DEFINITION = {"scores.metrics": 1}


@metric("uncertainty", recipe="standard")
@metric("uncertainty_adversarial", recipe="trades")
@metric("uncertainty_tilde", recipe="trades", trajectory="adversarial")
class UncertaintySettings(Metric):
    """DU of He et al. (2023) and Nieth et al.: how much the confidence moves within windows. See papers.md, N1."""

    unit = "standard deviation of the label's probability"
    sign = "0 never moved: easy, or given up"
    reads = "confidence"

    metric: Literal["uncertainty"] = Field("uncertainty", description="name of the metric")
    window: int = Field(10, ge=2, description="recorded epochs in a window, J")
    last_window: bool = Field(
        default=False, description="count the window that ends in the last epoch, which the published code leaves out"
    )

    def score(self, trainings: Sequence[Recorded]) -> Score:
        """Return the mean standard deviation over the windows."""
        return uncertainty(trainings[0].values, window=self.window, last_window=self.last_window)

    def problem(self, epochs: int) -> str | None:
        """Return a problem if the recorded epochs are fewer than a window."""
        if epochs - self.window + self.last_window < 1:
            return f"dynamics.uncertainty.window = {self.window} is too long for the {epochs} epochs recorded"
        return None


def uncertainty(confidence: npt.NDArray[Any], *, window: int, last_window: bool) -> Score:
    """Return the standard deviation (ddof 1) over windows of ``window`` epochs, averaged over the windows.

    He et al. (2023), https://arxiv.org/abs/2306.05175; Nieth et al., Eq. 1-3. The published code of both leaves out
    the window that ends in the last epoch (papers.md, N1); ``last_window`` includes it. ``confidence``: (T, N)
    probability of the label. Returns (N,) in [0, 1]. Raises ValueError for fewer epochs than one window.
    """
    windows = len(confidence) - window + last_window
    if window < 2 or windows < 1:
        raise ValueError(f"{len(confidence)} epochs make no window of {window}")
    values = confidence.astype(np.float32, copy=False)
    total = np.zeros(values.shape[1])
    for first in range(windows):
        total += values[first : first + window].std(axis=0, ddof=1)
    return (total / windows).astype(np.float32)
