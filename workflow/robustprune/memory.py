"""Memory that a process gets back from itself and not from the system."""

import ctypes

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
