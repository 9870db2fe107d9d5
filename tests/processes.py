"""Real processes that tests start, wait for and send signals to."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Killed(BaseException):
    """Stands for a kill -9 between two batches of a stage that runs in the tests' own process."""


def command(stage: Path, *options: str, seconds: float = 0) -> list[str]:
    """What runs a stage on the CPU, with so many seconds between two checkpoints: none, so after every step."""
    run = ["-m", "robustprune", "run", str(stage), "--device", "cpu", "--checkpoint-seconds", str(seconds)]
    return [sys.executable, *run, *options]


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[Any]", seconds: float = 120) -> None:
    """Wait for something that a process does; if it ends before, or takes too long, what it wrote is in the error."""
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


WAITS_AFTER_SAVING = """
import sys, time
from pathlib import Path
from robustprune.cli.main import main
from robustprune.core.interruption import Checkpoints

partial, files = Path(sys.argv.pop(1)), sys.argv.pop(1)
tick = Checkpoints.tick

def tick_and_wait(checkpoints, save):
    tick(checkpoints, save)
    if any(partial.glob(files)):
        time.sleep(600)

Checkpoints.tick = tick_and_wait
sys.exit(main())
"""


def newest_save(stage: Path, files: str = "**/*") -> tuple[int, str]:
    """When the last of such files in ``partial/`` was written, and which it is."""
    found = [path for path in (stage / "partial").glob(files) if not path.name.startswith(".") and path.is_file()]
    return max(((path.stat().st_mtime_ns, path.name) for path in found), default=(0, ""))


def kill_after_save(stage: Path, *options: str, files: str = "**/*") -> None:
    """Kill -9 what runs a stage after it has saved such a file; it waits there, so it cannot end before."""
    before = newest_save(stage, files)
    arguments = [str(stage / "partial"), files, *command(stage, *options)[3:]]
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS_AFTER_SAVING, *arguments], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: newest_save(stage, files) != before, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (stage / "record.json").exists()
