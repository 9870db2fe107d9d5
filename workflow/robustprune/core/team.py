"""The processes that train one model together: they share each batch, and add up what they find.

Each of N processes has the whole model and attacks every N-th image of the batch; gradients are added up before the
optimiser's step, so all of them keep the same weights. The job leads: it alone holds the stage's lock, writes files and
heeds signals. Followers write nothing, so they may be killed at any moment, and are as soon as the leader ends.
"""

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is public

from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.interruption import SIGNALS
from robustprune.core.job import Job

DEFINITION = {"training.team": 1}

logger = logging.getLogger(__name__)

HERE = "127.0.0.1"
PATIENCE = timedelta(days=7)  # of a follower while the leader validates or prunes; a dead process is noticed otherwise
GRACE_SECONDS = 10.0  # that the leader has to say itself what went wrong when a follower has died
PR_SET_PDEATHSIG = 1  # as in prctl.h

Follow = Callable[[Job, "Team"], None]
"""What a follower does; a function of a module, since it is called in another process."""


@dataclass(frozen=True)
class Team:
    """The processes, as one of them sees them; a process alone shares nothing and waits for nobody."""

    rank: int = 0  # this process's number; number 0 leads: it alone writes files and heeds signals
    size: int = 1  # number of processes

    @property
    def leads(self) -> bool:
        """True if this process writes what all have made."""
        return self.rank == 0

    @property
    def rows(self) -> slice:
        """The rows of a batch that are this process's."""
        return slice(self.rank, None, self.size)

    def share(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Return the ``rows`` of a batch in parts, one after the other, in as many parts."""
        first, shares = self.rank, []
        for part in parts:
            shares.append(part[first :: self.size])
            first = (first - len(part)) % self.size
        return shares

    def total(self, value: Tensor) -> Tensor:
        """The sum of all processes' values, element by element; gradients flow back to all of them."""
        summed: Tensor = value if self.size == 1 else _Total.apply(value)
        return summed

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor, all of one dtype, by the sum of all processes' tensors, in one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, summed in zip(tensors, torch.split(flat, sizes), strict=True):
            tensor.copy_(summed.view_as(tensor))

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The others do the block when the leader has done it, so that they find the files it wrote."""
        if self.size > 1 and not self.leads:
            distributed.barrier()
        yield
        if self.size > 1 and self.leads:
            distributed.barrier()


class _Total(torch.autograd.Function):
    """A sum over processes: each value counts in every process's sum, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(_context: Any, value: Tensor) -> Tensor:
        summed = value.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed


@contextmanager
def team_of(job: Job, follow: Follow) -> Iterator[Team]:
    """The job's process and as many followers as ``execution.processes`` asks for, of which each runs ``follow``.

    On GPUs each process has one and they talk by NCCL, else by gloo. The job's CPU threads are shared among them.

    Args:
        job: the running stage.
        follow: what followers do; it must exchange as much as the block.

    Raises:
        UserError: when there are fewer GPUs than processes, or torchrun has started several already.
    """
    size = job.execution.processes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise UserError("torchrun is not needed: robustprune run --processes N starts the processes itself")
    if size == 1:
        yield Team()
        return
    _refuse_device(job, size)
    threads = max(torch.get_num_threads() // size, 1)
    torch.set_num_threads(threads)
    store = _store(0, leads=True)
    followers = [_start(job, follow, Team(rank, size), store.port, threads) for rank in range(1, size)]
    left = threading.Event()
    threading.Thread(target=_watch, args=(followers, left), daemon=True).start()
    try:
        with _joined(job.device, store, Team(0, size)) as team:
            yield team
        for follower in followers:
            follower.join()
    except RuntimeError as error:  # of gloo, which cannot reach one of them
        connection.wait([follower.sentinel for follower in followers], timeout=1)
        for follower in followers:
            follower.join(0.1)  # what ends closes its connections before it has an exit code
        if dead := _dead(followers):
            raise RuntimeError(dead) from error
        raise
    finally:
        left.set()
        for follower in followers:
            follower.kill()


def _store(port: int, *, leads: bool = False) -> TCPStore:
    """Return where they meet; NCCL, too, which waits in it for the leader as long as the store does."""
    return TCPStore(HERE, port, is_master=leads, wait_for_workers=False, timeout=PATIENCE)


@contextmanager
def _joined(device: torch.device, store: TCPStore, team: Team) -> Iterator[Team]:
    """Meet the others, and leave together with them; after an error the process does not wait for anyone."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=team.rank, world_size=team.size, timeout=PATIENCE)
    distributed.barrier()  # NCCL joins them at the first exchange: where it cannot, this shows now
    yield team
    distributed.barrier()
    distributed.destroy_process_group()


def _refuse_device(job: Job, size: int) -> None:
    if job.device.type != "cuda":
        return
    if job.device.index is not None:
        raise UserError(
            f"execution.device = {job.device} with execution.processes = {size}: each has a GPU of its own, so use cuda"
        )
    if torch.cuda.device_count() < size:
        raise UserError(
            f"execution.processes = {size}, but this machine has {torch.cuda.device_count()} GPUs, and each process "
            "needs its own"
        )


def _start(job: Job, follow: Follow, team: Team, port: int, threads: int) -> SpawnProcess:
    device = f"cuda:{team.rank}" if job.device.type == "cuda" else "cpu"
    execution = job.execution.model_copy(update={"device": device})
    follower = multiprocessing.get_context("spawn").Process(
        target=_be_follower, args=(job.directory, execution, threads, follow, team, port), daemon=True
    )
    follower.start()
    return follower


def _be_follower(directory: Path, execution: Execution, threads: int, follow: Follow, team: Team, port: int) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent()
    job = Job(directory, execution, threads=threads, live=False)
    if job.device.type == "cuda":
        torch.cuda.set_device(job.device)
    try:
        with _joined(job.device, _store(port), team):
            follow(job, team)
    except UserError as error:
        logger.error("process %d of %d: %s", team.rank + 1, team.size, error)
        sys.exit(error.exit_code)


def _die_with_parent() -> None:
    """Have Linux kill this process with the one that started it, even by kill -9."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None or os.getppid() != parent.pid:
        sys.exit("the process that this one follows has ended")


def _watch(followers: list[SpawnProcess], left: threading.Event) -> None:
    """End the leader when a follower dies and it does not notice, as NCCL would wait for ever."""
    running = list(followers)
    while running and not _dead(followers):
        connection.wait([follower.sentinel for follower in running])
        running = [follower for follower in running if follower.is_alive()]
    dead = _dead(followers)
    if dead and not left.wait(GRACE_SECONDS):
        logger.error("%s", dead)
        os._exit(1)


def _dead(followers: list[SpawnProcess]) -> str | None:
    """Return what there is to say of followers that ended before their work did."""
    codes = {rank: follower.exitcode for rank, follower in enumerate(followers, start=2) if follower.exitcode}
    if not codes:
        return None
    which = ", ".join(f"process {rank} of {len(followers) + 1} with exit code {code}" for rank, code in codes.items())
    return f"ended too early: {which}; rerun the same command to resume from the last checkpoint"
