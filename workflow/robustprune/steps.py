"""Going step by step so that a killed job loses at most a minute of them; for rows of a pool see ``blocks``."""

import time
from abc import ABC, abstractmethod
from typing import Any

from robustprune.job import Job
from robustprune.state import load_state, save_state

CHECKPOINT_FILE = "checkpoint.pt"


class ResumableSteps(ABC):
    """A loop of steps that goes on from its last checkpoint to the same bits.

    Random draws must need only the step's number (see ``randomness``); all else that a step changes belongs to the
    state.

    Attributes:
        job: the running stage; its checkpoints and ``partial/`` are used.
        step: steps done.
        seconds: time they took, over all attempts.
    """

    what: str
    """What is done, for the progress report."""

    def __init__(self, job: Job, total: int) -> None:
        self.job, self.total = job, total
        self.step, self.seconds = 0, 0.0

    @abstractmethod
    def take_step(self) -> None:
        """Do step number ``self.step``, counted from 0."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a step changes: nested dicts and lists of tensors, numbers and text."""

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave; tensors are on the CPU."""

    def run(self) -> None:
        """Go to the last step, from the last checkpoint where there is one. Raises Interrupted on a signal."""
        self._resume()
        started = time.monotonic() - self.seconds
        progress = self.job.progress(self.what, total=self.total, unit="steps", done=self.step)
        with progress, self.job.checkpoints:
            while self.step < self.total:
                self.one_step()
                self.seconds = time.monotonic() - started
                progress.advance()
                self.job.checkpoints.tick(self.save)
        self.save()

    def one_step(self) -> None:
        """Do the next step."""
        self.take_step()
        self.step += 1

    def save(self) -> None:
        """Replace the checkpoint."""
        state = {"step": self.step, "seconds": self.seconds, "state": self.state()}
        save_state(self.job.partial / CHECKPOINT_FILE, state)

    def _resume(self) -> None:
        saved = load_state(self.job.partial / CHECKPOINT_FILE)
        if saved is not None:
            self.step, self.seconds = saved["step"], saved["seconds"]
            self.load(saved["state"])
