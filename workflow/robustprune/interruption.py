"""Being asked to stop: SIGTERM and SIGUSR1 are remembered, and long loops look after every step."""

import signal
import time
from collections.abc import Callable
from types import FrameType

from robustprune.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Checkpoints:
    """Decides when a long loop saves its state, and ends it when a signal has come.

    Args:
        interval: seconds between two saves; 0 saves after every step.
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._last = time.monotonic()
        self._signal: signal.Signals | None = None

    def listen(self) -> None:
        """Remember SIGTERM and SIGUSR1 from now on. SLURM sends them before a time limit and on scancel."""
        for number in SIGNALS:
            signal.signal(number, self._remember)

    def tick(self, save: Callable[[], None]) -> None:
        """To be called after each step: saves when it is time. Raises Interrupted, after saving, on a signal."""
        if self._signal is not None:
            save()
            raise Interrupted(f"stopped by {self._signal.name}; the state is saved, the same command goes on from it")
        if time.monotonic() - self._last >= self.interval:
            save()
            self._last = time.monotonic()

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self._signal = signal.Signals(number)
