"""What training dynamics say of an image: small functions of its trajectory over the recorded epochs.

A trajectory is an array (T, N): T recorded epochs in order, N images. Each column's score is its own, so pools are
scored in blocks of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

DEFINITION = {"scores.metrics": 1}

TRANSFORMED = 2**12  # images at once, as a transform takes many times the memory of the trajectories

Trajectory = npt.NDArray[np.floating[Any]]  # (T, N)
Correct = npt.NDArray[np.bool_]  # (T, N)
Score = npt.NDArray[np.float32]  # (N,)


def difficulty(correct: Correct) -> Score:
    """Share of the epochs after which an image is misclassified: CD of PUMA, Eq. 1 (after Dong et al. 2021).

    Args:
        correct: (T, N) whether the largest logit was the label's.

    Returns:
        (N,) in [0, 1]; 0 was always right.
    """
    return np.asarray(np.mean(~correct, axis=0, dtype=np.float32))


def uncertainty(confidence: Trajectory, *, window: int, last_window: bool) -> Score:
    """Dynamic uncertainty: the standard deviation (ddof 1) over a window of epochs, averaged over windows.

    He et al. (2023), https://arxiv.org/abs/2306.05175; Nieth et al., Eq. 1-3. The published code of both leaves out
    the window that ends in the last epoch, so T - ``window`` are averaged (papers.md, N1).

    Args:
        confidence: (T, N) probability of the label.
        window: epochs in a window, J; at least 2.
        last_window: count the last window as well, T - ``window`` + 1 of them.

    Returns:
        (N,) in [0, 1]; 0 for a constant.

    Raises:
        ValueError: when the epochs do not make one window.
    """
    windows = len(confidence) - window + last_window
    if window < 2 or windows < 1:
        raise ValueError(f"{len(confidence)} epochs make no window of {window}")
    values = confidence.astype(np.float32, copy=False)
    total = np.zeros(values.shape[1])
    for first in range(windows):
        total += values[first : first + window].std(axis=0, ddof=1)
    return (total / windows).astype(np.float32)


def frequency(confidence: Trajectory) -> Score:
    """Sum of the magnitudes of the discrete Fourier transform over epochs, the constant left out: FP of Nieth et al.

    Both halves of the spectrum count, as in the published code (papers.md, N2): sum of |X_f|, f = 1 ... T - 1.

    Args:
        confidence: (T, N) probability of the label.

    Returns:
        (N,) >= 0; 0 for a constant.
    """
    images = range(0, confidence.shape[1], TRANSFORMED)
    return np.concatenate([_frequency(confidence[:, first : first + TRANSFORMED]) for first in images])


def _frequency(confidence: Trajectory) -> Score:
    epochs = len(confidence)
    values = confidence.astype(np.float32, copy=False)
    # A shift moves X_0 alone; this one makes a constant exactly 0, which rounding would not.
    magnitude = np.abs(np.fft.rfft(values - values[0], axis=0))
    twice = magnitude[1 : (epochs + 1) // 2].sum(axis=0)
    middle = magnitude[epochs // 2] if epochs % 2 == 0 else 0.0  # its own mirror image
    return np.asarray(2 * twice + middle, dtype=np.float32)


def forgetting(correct: Correct) -> Score:
    """How often an image goes from right to wrong from one recorded epoch to the next: Toneva et al. (2019).

    https://arxiv.org/abs/1812.05159, Section 3. An image that is never right counts as forgotten infinitely often.

    Args:
        correct: (T, N) whether the largest logit was the label's.

    Returns:
        (N,) whole numbers, or infinity.
    """
    events = np.count_nonzero(correct[:-1] & ~correct[1:], axis=0)
    return np.where(correct.any(axis=0), events, np.inf).astype(np.float32)


def el2n(errors: Sequence[npt.NDArray[np.floating[Any]]]) -> Score:
    """Mean over models of the L2 norm of softmax - one-hot label early in training: EL2N of Paul et al. (2021).

    https://arxiv.org/abs/2107.07075

    Args:
        errors: for each model, (N,) norms at its early epoch, in [0, sqrt 2].

    Returns:
        (N,) in [0, sqrt 2].
    """
    return np.asarray(np.mean(np.stack(errors), axis=0, dtype=np.float64), dtype=np.float32)
