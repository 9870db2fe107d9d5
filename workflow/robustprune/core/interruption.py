"""Being asked to stop: within a long loop signals are remembered, and it looks for them after every step.

SLURM sends SIGUSR1 before a time limit (as the profile asks it to) and SIGTERM on scancel; Ctrl-C is SIGINT.
"""

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from robustprune.core.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Checkpoints:
    """Decides when a long loop saves its state, and ends it when a signal has come; a ``with`` around the loop.

    There are ``interval`` seconds between two saves; 0 saves after every step.
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._last = time.monotonic()
        self._signal: signal.Signals | None = None
        self._handlers: list[dict[signal.Signals, Any]] = []  # of each loop, as a step may be a loop of its own

    def __enter__(self) -> Self:
        """Remember signals from now on; a second Ctrl-C ends the process at once."""
        self._handlers.append({number: signal.signal(number, self._remember) for number in SIGNALS})
        return self

    def __exit__(self, *_: object) -> None:
        """Signals do again what they did before: after the outermost loop, they end the process."""
        for number, handler in self._handlers.pop().items():
            signal.signal(number, handler)

    def tick(self, save: Callable[[], None]) -> None:
        """To be called after each step: saves when it is time. Raises Interrupted, after saving, on a signal."""
        if self._signal is not None:
            save()
            raise Interrupted(f"stopped by {self._signal.name}; checkpoint saved; rerun the same command to resume")
        if time.monotonic() - self._last >= self.interval:
            save()
            self._last = time.monotonic()

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self._signal is not None and number == signal.SIGINT:  # SLURM's SIGTERM after its SIGUSR1 is no impatience
            raise KeyboardInterrupt
        self._signal = signal.Signals(number)
