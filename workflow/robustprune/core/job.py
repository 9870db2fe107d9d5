"""One stage, one command, one directory.

A job finds its inputs beside its own directory, works in ``partial/``, moves finished outputs up, and writes
``record.json`` last. Killed anywhere, the same command goes on from ``partial/``.
"""

import fcntl
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.files import move_over, write_text
from robustprune.core.interruption import Checkpoints
from robustprune.core.paths import LOCK_FILE, PARTIAL, part_marker, stage_directory
from robustprune.core.progress import Progress
from robustprune.core.record import make_record, read_record, restore_record
from robustprune.core.stage import Stage
from robustprune.core.stage_file import read_spec

if TYPE_CHECKING:  # half a gigabyte, which a stage without a device does not need
    import torch

logger = logging.getLogger(__name__)


class Job:
    """Directories, device and settings of a running stage."""

    def __init__(self, directory: Path, execution: Execution, *, threads: int, live: bool) -> None:
        self.directory = directory  # where finished outputs go
        self.partial = directory / PARTIAL  # for unfinished outputs and checkpoints; removed when all is complete
        self.execution = execution  # nothing in it may change a number
        self.checkpoints = Checkpoints(execution.checkpoint_seconds)  # call ``tick`` after each step of a long loop
        self.outputs: list[Path] = []
        self.digests: dict[str, str] = {}
        self._threads, self._live = threads, live

    @cached_property
    def device(self) -> "torch.device":
        """Device to compute on; torch is imported and prepared on first use. Raises UserError for a missing GPU."""
        from robustprune.core.device import describe, prepare_device

        device = prepare_device(self.execution.device, threads=self._threads)
        logger.info("computing on %s", describe(device))
        return device

    @property
    def device_used(self) -> str:
        """The device's name for the record; ``cpu`` where nothing asked for a device."""
        if "device" not in self.__dict__:
            return "cpu"
        from robustprune.core.device import describe

        return describe(self.device)

    @property
    def peak_gpu_memory_mb(self) -> float:
        """The most that was in use, MB; 0 without a GPU."""
        if self.device_used.startswith("cpu"):
            return 0.0
        from torch.cuda import max_memory_allocated

        return max_memory_allocated(self.device) / 2**20

    def upstream(self, kind: str, stage_id: str) -> Path:
        """The directory of a stage that this one reads."""
        return stage_directory(self.directory.parents[1], kind, stage_id)

    def progress(self, what: str, *, total: int, unit: str, done: int = 0) -> Progress:
        """A progress report on a loop of ``total`` units, ``done`` of which an earlier attempt did."""
        return Progress(what, total=total, unit=unit, done=done, live=self._live)

    def output(self, name: str) -> Path:
        """Return where an output lies: in ``partial/``, or where it was published to."""
        unpublished = self.partial / name
        return unpublished if unpublished.exists() else self.directory / name

    def publish(self, *names: str, digests: Mapping[str, str] | None = None) -> None:
        """Move finished outputs from ``partial/`` into the stage's directory, where a killed attempt has not.

        ``digests`` are those that were computed while the outputs were written, for the record.
        """
        self.digests.update(digests or {})
        for name in names:
            source, target = self.partial / name, self.directory / name
            if source.exists() or not target.exists():
                move_over(source, target)
            self.outputs.append(target)


Pull = Callable[[Job, Any], dict[str, Any]]
"""Puts a score's outputs in place and returns its facts, as the ``run`` of a room."""


def run_stage(
    spec_path: Path, execution: Execution, *, threads: int = 1, live: bool = False, pull: Pull | None = None
) -> None:
    """Do the stage of a spec.json, or in a directory, from where an earlier attempt stopped; nothing if it is complete.

    Args:
        spec_path: a stage's spec.json, or its directory.
        execution: how it is run.
        threads: CPU threads.
        live: True for a progress bar, False for log lines.
        pull: brings a score from elsewhere instead of computing it; only its pool is read.

    Raises:
        UserError: for anything a user can put right, before the costly part.
        Interrupted: after SIGTERM or SIGUSR1, with the state saved.
    """
    job, spec = _open_job(spec_path, execution, threads=threads, live=live, pulled=pull is not None)
    with _alone(job.directory / LOCK_FILE):
        if _is_complete(job, spec):
            shutil.rmtree(job.partial, ignore_errors=True)
            return
        job.partial.mkdir(exist_ok=True)
        _do(job, spec, pull)


def run_part(spec_path: Path, rows: range, execution: Execution, *, threads: int = 1, live: bool = False) -> None:
    """Compute some rows of a stage into blocks in its ``partial/``, and mark them as done in ``parts/``.

    ``run_stage`` goes on from all blocks there are, whoever made them. Parts may run at once, but not beside it.

    Raises:
        UserError: for a stage that has no rows to share, rows out of place, and as ``run_stage``.
        Interrupted: after SIGTERM or SIGUSR1, with finished rows saved.
    """
    job, spec = _open_job(spec_path, execution, threads=threads, live=live)
    if spec.shared_rows is None:
        raise UserError(f"--rows {rows.start}:{rows.stop}: {spec.id} is of kind {spec.kind}, which is one job")
    marker = part_marker(job.directory, rows)
    marker.parent.mkdir(exist_ok=True)
    with _alone(job.directory / LOCK_FILE, shared=True), _alone(marker.with_suffix(".lock")):
        started = time.monotonic()
        if not _is_complete(job, spec):
            job.partial.mkdir(exist_ok=True)
            logger.info("%s, rows %d to %d", spec.id, rows.start, rows.stop)
            spec.row_pass(job)(rows=rows)
        done = {"id": spec.id, "rows": [rows.start, rows.stop], "seconds": round(time.monotonic() - started, 3)}
        write_text(marker, json.dumps(done) + "\n")


def _open_job(
    spec_path: Path, execution: Execution, *, threads: int, live: bool, pulled: bool = False
) -> tuple[Job, Stage]:
    spec = read_spec(spec_path)
    if pulled and spec.upstream_of_pull is None:
        raise UserError(f"{spec.id} is of kind {spec.kind}, but only scores are shared")
    directory = (spec_path if spec_path.is_dir() else spec_path.parent).absolute()
    job = Job(directory, execution, threads=threads, live=live)
    for kind, stage_id in (spec.upstream_of_pull or ()) if pulled else spec.upstream:
        upstream = job.upstream(kind, stage_id)
        if (record := read_record(upstream)).id != stage_id:
            raise UserError(f"{upstream} holds the record of {record.id}, another stage")
    return job, spec


def _is_complete(job: Job, spec: Stage) -> bool:
    complete = restore_record(job.directory)
    if complete:
        logger.info("%s is complete", spec.id)
    return complete


def _do(job: Job, spec: Stage, pull: Pull | None) -> None:
    started = time.monotonic()
    logger.info("%s", spec.id)
    facts = spec.run(job) if pull is None else pull(job, spec)
    record = make_record(
        spec.id,
        job.outputs,
        known=job.digests,
        seconds=time.monotonic() - started,
        device=job.device_used,
        peak_gpu_memory_mb=job.peak_gpu_memory_mb,
        facts=facts,
    )
    record.write(job.directory)
    shutil.rmtree(job.partial, ignore_errors=True)  # NFS may hold on to a file; the record stands already
    logger.info("%s done in %.1f s", spec.id, record.seconds)


@contextmanager
def _alone(lock: Path, *, shared: bool = False) -> Iterator[None]:
    """Wait until no other process does this stage: a scheduler may start a job again while its orphan still runs.

    Processes that take the lock as ``shared`` wait only for one that does not.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with lock.open("a+") as file:  # NFS 4 gives a shared lock to who may read alone
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another process does this stage; waiting for it")
            fcntl.flock(file, kind)
        except OSError as error:
            logger.warning("this file system has no locks (%s), so two jobs may do this stage at once", error)
        yield
