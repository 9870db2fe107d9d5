"""Learning rate and momentum as functions of the position in the training."""

import math
from typing import NamedTuple

DEFINITION = 1

WARM_UP = 0.025  # share of the training until the learning rate's peak (facts 1.2)
START_DIVISOR = 25.0  # the first learning rate is the peak's by this much lower
END_DIVISOR = 1e4  # and the last one is the first's by this much lower
HIGH_MOMENTUM, LOW_MOMENTUM = 0.95, 0.85


class CyclePoint(NamedTuple):
    """Where the cycle stands."""

    learning_rate: float
    momentum: float


def one_cycle(index: int, total: int, *, peak: float) -> CyclePoint:
    """The cosine one-cycle policy as torch's OneCycleLR with pct_start 0.025 has it; facts 1.2.

    Args:
        index: steps (or epochs) done, 0 ... ``total`` - 1.
        total: steps (or epochs) in all.
        peak: the highest learning rate.

    Returns:
        The learning rate, which rises and falls, and the momentum, which falls and rises. With fewer than 41 steps
        there is no room for a warm-up and the cycle starts at its peak.
    """
    top = max(WARM_UP * total - 1, 0.0)
    start = peak / START_DIVISOR
    if index < top:
        share = index / top
        return CyclePoint(_cosine(start, peak, share), _cosine(HIGH_MOMENTUM, LOW_MOMENTUM, share))
    share = (index - top) / max(total - 1 - top, 1.0)
    return CyclePoint(_cosine(peak, start / END_DIVISOR, share), _cosine(LOW_MOMENTUM, HIGH_MOMENTUM, share))


def _cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * share))
