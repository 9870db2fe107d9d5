"""Real processes that tests start, wait for and send signals to."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def command(stage: Path, *options: str, seconds: float = 0) -> list[str]:
    """What runs a stage on the CPU, with so many seconds between two checkpoints: none, so after every step."""
    run = ["-m", "robustprune", "run", str(stage), "--device", "cpu", "--checkpoint-seconds", str(seconds)]
    return [sys.executable, *run, *options]


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[Any]", seconds: float = 120) -> None:
    """Wait for something that a process does; if it ends before, or takes too long, what it wrote is told."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"it ended too early: {process.communicate()[1]}"
        if time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"not within {seconds} seconds: {process.communicate()[1]}")
        time.sleep(0.05)


def remembers_signals(process: int) -> bool:
    """Whether the process of that id is within a loop that looks for signals: SIGUSR1 is among those it catches."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGUSR1 - 1) & 1)
