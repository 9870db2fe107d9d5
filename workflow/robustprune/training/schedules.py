"""Learning rate and momentum as functions of the position in the training."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from robustprune.training.recipes.base import PLAIN_MOMENTUM

if TYPE_CHECKING:
    from robustprune.training.recipes.base import Recipe


class Position(NamedTuple):
    """The place of one step, all counted from 0.

    Attributes:
        number: steps done before it.
        epoch: epochs done before it.
        step: steps of its epoch done before it.
        steps: steps of its epoch.
        epochs: epochs of the training.
    """

    number: int
    epoch: int
    step: int
    steps: int
    epochs: int

    @property
    def ends_epoch(self) -> bool:
        """True if it is the last of its epoch."""
        return self.step == self.steps - 1

    @property
    def done(self) -> int:
        """Steps done before it, out of ``whole``, as if every epoch had as many steps as its own.

        ``done / whole`` is the share of the epochs that is done, so a schedule over it reaches its end however
        pruning shortens the epochs (papers.md, K2).
        """
        return self.epoch * self.steps + self.step

    @property
    def whole(self) -> int:
        """Steps of the training, if every epoch had as many as its own."""
        return self.epochs * self.steps


class Clock:
    """Tells the position of each step.

    Args:
        steps: number of steps of each epoch, one entry an epoch.
    """

    def __init__(self, steps: tuple[int, ...]) -> None:
        self._steps = steps
        self._ends = list(accumulate(steps))

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self._ends[-1]

    def end_of(self, epoch: int) -> int:
        """Steps done at the end of an epoch, counted from 1."""
        return self._ends[epoch - 1]

    def position(self, number: int) -> Position:
        """The place of step ``number``, 0 ... ``total`` - 1."""
        epoch = bisect_right(self._ends, number)
        first = self._ends[epoch] - self._steps[epoch]
        return Position(number, epoch, number - first, self._steps[epoch], len(self._steps))


DEFINITION = {"training.clock": 1, "training.schedules": 2}

WARM_UP = 0.025  # share of the training until the one-cycle's peak
START_DIVISOR = 25.0  # its first learning rate is the peak's by this much lower
END_DIVISOR = 1e4  # and the last one is the first's by this much lower
ONE_CYCLE_MOMENTUM = (0.95, 0.85)  # at the ends, at the peak: torch's OneCycleLR overrides the optimiser's own
TRIANGLE_MOMENTUM = (0.9, 0.8)  # the same of torch's CyclicLR


class CyclePoint(NamedTuple):
    """A point of the cycle."""

    learning_rate: float
    momentum: float


def cycle_point(settings: Recipe, position: Position) -> CyclePoint:
    """Learning rate and momentum of a step, as the recipe says."""
    done, whole, peak = position.done, position.whole, settings.learning_rate
    match settings.schedule:
        case "onecycle_epoch":
            return one_cycle(position.epoch, position.epochs, peak=peak)
        case "onecycle_step":
            return one_cycle(done, whole, peak=peak)
        case "cyclic":
            return triangle(done / whole, peak=peak)
        case "piecewise_linear":
            return piecewise_linear((done + 1) / position.steps, position.epochs, peak=peak)


def one_cycle(index: int, total: int, *, peak: float) -> CyclePoint:
    """The cosine one-cycle policy as torch's OneCycleLR with pct_start 0.025 has it.

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
    high, low = ONE_CYCLE_MOMENTUM
    if index < top:
        share = index / top
        return CyclePoint(_cosine(start, peak, share), _cosine(high, low, share))
    share = (index - top) / max(total - 1 - top, 1.0)
    return CyclePoint(_cosine(peak, start / END_DIVISOR, share), _cosine(low, high, share))


def triangle(done: float, *, peak: float) -> CyclePoint:
    """From 0 up to the peak in the middle and down again, as torch's CyclicLR with base 0.

    Args:
        done: share of the training done before the step, [0, 1).
        peak: the highest learning rate.

    Returns:
        The learning rate, and the momentum, which falls and rises.
    """
    height = 1 - abs(2 * done - 1)
    high, low = TRIANGLE_MOMENTUM
    return CyclePoint(peak * height, high - (high - low) * height)


def piecewise_linear(time: float, epochs: int, *, peak: float) -> CyclePoint:
    """From 0 up to the peak at two fifths of the epochs, whole ones, and down to 0 at the end.

    Args:
        time: epochs done at the end of the step, (0, ``epochs``].
        epochs: epochs in all.
        peak: the highest learning rate.
    """
    top = epochs * 2 // 5
    share = time / top if time < top else (epochs - time) / (epochs - top)
    return CyclePoint(peak * share, PLAIN_MOMENTUM)


def _cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * share))
