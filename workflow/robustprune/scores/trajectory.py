"""What a training records of each image, epoch after epoch."""

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Trajectory = Literal["clean", "adversarial", "clean_averaged", "adversarial_averaged"]
"""What is recorded after an epoch: predictions for clean or attacked images, by the raw or the averaged weights."""

Value = Literal["confidence", "error", "correct"]
"""The label's probability, the L2 norm of softmax - one-hot label, and whether the largest logit is the label's."""

Score = npt.NDArray[np.float32]
"""(N,), one number an image."""


class Recorded(NamedTuple):
    """One value of some images over the recorded epochs of one training.

    Attributes:
        values: (T, N): T recorded epochs in order, N images; float16 for confidence and error, bool for correct.
        after: (T,) after how many epochs each was recorded.
    """

    values: npt.NDArray[Any]
    after: npt.NDArray[np.int64]


def evenly_spaced(total: int, count: int) -> tuple[int, ...]:
    """Return ``count`` of the numbers 1 to ``total``, evenly spaced, the last among them. ValueError for too many."""
    if count > total:
        raise ValueError(f"there are no {count} different numbers from 1 to {total}")
    return tuple((position + 1) * total // count for position in range(count))
