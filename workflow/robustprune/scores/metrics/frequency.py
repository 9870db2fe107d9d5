"""FP: the magnitudes of the confidence's Fourier transform over the epochs."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.scores.metric import Metric, Recorded, Score, metric

DEFINITION = {"scores.metrics": 1}

TRANSFORMED = 2**12  # images at once: a transform takes many times the memory of the trajectories


@metric("frequency", recipe="trades")
@metric("frequency_adversarial", recipe="trades", trajectory="adversarial")
class FrequencySettings(Metric):
    """FP of Nieth et al.: the magnitudes of the confidence's Fourier transform over the epochs. See papers.md, N2."""

    unit = "summed magnitudes of the DFT of the label's probability"
    sign = "0 never moved: easy, or given up"
    reads = "confidence"

    metric: Literal["frequency"] = Field("frequency", description="name of the metric")

    def score(self, trainings: Sequence[Recorded]) -> Score:
        """Return the sum of the magnitudes of each image."""
        return frequency(trainings[0].values)


def frequency(confidence: npt.NDArray[Any]) -> Score:
    """Return the sum of the magnitudes of the discrete Fourier transform over epochs, without the constant term.

    Both halves of the spectrum count, as in the published code (papers.md, N2): sum of |X_f|, f = 1 ... T - 1.
    ``confidence``: (T, N) probability of the label. Returns (N,) >= 0.
    """
    images = range(0, confidence.shape[1], TRANSFORMED)
    return np.concatenate([_frequency(confidence[:, first : first + TRANSFORMED]) for first in images])


def _frequency(confidence: npt.NDArray[Any]) -> Score:
    epochs = len(confidence)
    values = confidence.astype(np.float32, copy=False)
    # A shift changes X_0 alone; this one gives exactly 0 for a constant, in spite of rounding.
    magnitude = np.abs(np.fft.rfft(values - values[0], axis=0))
    twice = magnitude[1 : (epochs + 1) // 2].sum(axis=0)
    middle = magnitude[epochs // 2] if epochs % 2 == 0 else 0.0  # this term is counted once
    return np.asarray(2 * twice + middle, dtype=np.float32)
