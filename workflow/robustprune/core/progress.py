"""How far a long loop is, how fast, and how long it still takes: a bar on a terminal, plain lines elsewhere."""

import logging
import time
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import rich.console
    import rich.progress

logger = logging.getLogger(__name__)
LINE_SECONDS = 10.0


class Progress:
    """Counts units of work, of which an earlier attempt may have ``done`` some; a ``with`` around the loop.

    It draws a bar if ``live``, and otherwise logs a line about every ten seconds. ``unit`` is a plural.
    """

    def __init__(self, what: str, *, total: int, unit: str, done: int = 0, live: bool = False) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self._started_at, self._started_with = time.monotonic(), done
        self._said_at = self._started_at
        self._bar = _bar(unit) if live else None
        self._task = self._bar.add_task(what, total=total, completed=done, rate="") if self._bar is not None else None

    def __enter__(self) -> Self:
        """Draw the bar, or say where an earlier attempt stopped."""
        if self._bar is not None:
            self._bar.start()
        elif self.done:
            logger.info("%s: going on from %s of %s %s", self.what, f"{self.done:,}", f"{self.total:,}", self.unit)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int = 1) -> None:
        """``count`` more units are done."""
        self.done += count
        now = time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{self._rate(now):,.1f} {self.unit}/s")
        elif now - self._said_at >= LINE_SECONDS or self.done >= self.total:
            self._said_at = now
            logger.info("%s", self.line(now))

    def line(self, now: float) -> str:
        """The plain line at time ``now`` (of time.monotonic)."""
        rate = self._rate(now)
        left = timedelta(seconds=round((self.total - self.done) / rate)) if rate > 0 else "unknown time"
        return f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, {rate:,.1f}/s, {left} left"

    def _rate(self, now: float) -> float:
        return (self.done - self._started_with) / max(now - self._started_at, 1e-9)


def _bar(unit: str) -> "rich.progress.Progress":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    return Progress(*columns, TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=_console())


@cache
def _console() -> "rich.console.Console":
    """One, so that the bar of a loop within a step is drawn below that of the steps."""
    from rich.console import Console

    return Console(stderr=True)
