"""Every random draw has its own seed: (stage seed, purpose, sample id or step).

No generator's state outlives a step, so nothing has to be saved for a resumed run to draw the same numbers, and no
number depends on batch size, order or how many jobs share the work.
"""

import hashlib

import torch
from torch import Tensor

DEFINITION = 1


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2^63) for one purpose, from SHA-256 of all the parts."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on ``device`` for one purpose, e.g. ``generator(seed, "batch", step)``."""
    return torch.Generator(device).manual_seed(derive_seed(seed, *purpose))


def per_sample(draw: str, shape: tuple[int, ...], ids: Tensor, seed: int, purpose: str) -> Tensor:
    """One independent draw for each sample id, the same in whatever batch the sample is.

    Args:
        draw: ``uniform`` on [-1, 1) or standard ``normal``.
        shape: shape of one sample's draw.
        ids: (N,) int64 ids of the samples.
        seed: the stage's seed.
        purpose: what the draw is for.

    Returns:
        (N, *shape) float32 on the CPU.
    """
    values = torch.empty(len(ids), *shape)
    for row, sample in zip(values, ids.tolist(), strict=True):
        source = generator(seed, purpose, sample)
        if draw == "uniform":
            row.uniform_(-1, 1, generator=source)
        elif draw == "normal":
            row.normal_(generator=source)
        else:
            raise ValueError(f"draw = {draw!r} should be 'uniform' or 'normal'")
    return values
