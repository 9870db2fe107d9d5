"""The device a stage computes on, and the numerical switches, set in this one place."""

import ctypes
import os

import torch
from torch.utils import deterministic

from robustprune.core.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as in malloc.h


def keep_freed_memory() -> None:
    """Have glibc keep what is freed in pieces of up to 32 MiB.

    A training step allocates what the one before it freed, and so does a block of images that is brought in. Fresh
    pages from the system take a fifth of a step's time where the network is small, and most of that of a copied block.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def prepare_device(name: str, *, threads: int) -> torch.device:
    """Choose the device and make its arithmetic repeatable. Raises UserError for a GPU that is not there.

    The name is ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:<index>``.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is repeatable only with a fixed workspace
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms imports torch's compiler, 2 s a job
    # The line above would also have torch fill all new memory with NaN, which is 5 % of a training step.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    keep_freed_memory()
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"execution.device = {name}, but torch finds no GPU on this machine; use auto or cpu")
    device = torch.device(name)
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise UserError(
            f"execution.device = {name}, but this machine has {torch.cuda.device_count()} GPUs, counted from 0"
        )
    return device


def describe(device: torch.device) -> str:
    """The device's name for the record."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
