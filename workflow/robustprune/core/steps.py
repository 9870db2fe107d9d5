"""Going step by step so that a killed job loses at most a minute of them; for rows of a pool see ``blocks``."""

import io
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from robustprune.core.errors import UserError
from robustprune.core.files import replacing
from robustprune.core.job import Job

DAMAGED = (EOFError, UnpicklingError, RuntimeError, ValueError, LookupError)  # what torch raises for such a file


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Put ``state`` (nested dicts and lists of tensors, numbers and text) in place of what ``path`` held."""
    buffer = io.BytesIO()  # torch's own file writer hides why it failed, a full disk say
    torch.save(state, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_state(path: Path) -> dict[str, Any] | None:
    """Return what ``save_state`` wrote, on the CPU; None where there is nothing. Nothing in the file is executed.

    Raises UserError when the file is damaged: what else is in its folder was made on the way to it, so that goes, too.
    """
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}); delete {path.parent}, and the same command begins anew"
        ) from None
    return state


CHECKPOINT_FILE = "checkpoint.pt"


class ResumableSteps(ABC):
    """A loop of steps that goes on from its last checkpoint to the same bits.

    Random draws must need only the step's number (see ``randomness``); all else that a step changes belongs to the
    state.
    """

    what: str  # is done, for the progress report

    def __init__(self, job: Job, total: int) -> None:
        self.job, self.total = job, total
        self.step, self.seconds = 0, 0.0  # steps done, and the time they took, over all attempts
        self.apart: dict[str, float] = {}  # time of what was done beside the steps, by name; not in ``seconds``
        self._began = time.monotonic()  # moved so that ``seconds`` have passed since

    @abstractmethod
    def take_step(self) -> None:
        """Do step number ``self.step``, counted from 0."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return what a step changes: nested dicts and lists of tensors, numbers and text."""

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave; tensors are on the CPU."""

    def run(self, until: int | None = None) -> None:
        """Go on until so many steps are done, by default all, from the last checkpoint where there is one.

        The state is saved at the end, and before Interrupted is raised after a signal.
        """
        if self.step == 0:
            self._resume()
        until = self.total if until is None else until
        if self.step >= until:
            return
        self._began = time.monotonic() - self.seconds
        progress = self.job.progress(self.what, total=self.total, unit="steps", done=self.step)
        with progress, self.job.checkpoints:
            while self.step < until:
                self.one_step()
                progress.advance()
                self.job.checkpoints.tick(self.save)
        self.save()

    def follow(self) -> None:
        """Take the same steps as a process that runs this loop, but save nothing and heed no signal.

        For steps that several processes do together.
        """
        self._resume()
        while self.step < self.total:
            self.one_step()

    def one_step(self) -> None:
        """Do the next step."""
        self.take_step()
        self.step += 1

    @contextmanager
    def timed_apart(self, name: str) -> Iterator[None]:
        """Count what is done in the block under ``apart[name]``, not as time of the steps."""
        began = self._now()
        try:
            yield
        finally:
            seconds = self._now() - began
            self.apart[name] = self.apart.get(name, 0.0) + seconds
            self._began += seconds

    def _now(self) -> float:
        if self.job.device.type == "cuda":
            torch.cuda.synchronize(self.job.device)
        return time.monotonic()

    def save(self) -> None:
        """Replace the checkpoint; for ``take_step``, too, before it begins what takes long."""
        self.seconds = time.monotonic() - self._began
        state = {"step": self.step, "seconds": self.seconds, "apart": self.apart, "state": self.state()}
        save_state(self.job.partial / CHECKPOINT_FILE, state)

    def _resume(self) -> None:
        saved = load_state(self.job.partial / CHECKPOINT_FILE)
        if saved is not None:
            self.step, self.seconds, self.apart = saved["step"], saved["seconds"], saved["apart"]
            self._began = time.monotonic() - self.seconds
            self.load(saved["state"])
