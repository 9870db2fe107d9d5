"""Seeds of random draws.

This file has no definition of its own: all draws rest on it, so it is fixed by ``randomness`` and ``sample_noise``, and
whoever changes it raises both.
"""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2^63) for one purpose, from SHA-256 of all the parts."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
