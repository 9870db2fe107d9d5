"""Where a training stands, when its epochs need not have the same number of steps."""

from bisect import bisect_right
from itertools import accumulate
from typing import NamedTuple

DEFINITION = 1


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
        """Whether it is the last of its epoch."""
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
