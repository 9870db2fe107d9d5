"""Noise of a sample's own: latents, and where attacks start."""

import numpy as np
import torch
from torch import Tensor

from robustprune.core.seeds import derive_seed

DEFINITION = {"sample_noise": 1}


def per_sample(draw: str, shape: tuple[int, ...], ids: Tensor, seed: int, purpose: str) -> Tensor:
    """Return an independent draw for each sample id, (N, *shape) float32 on the CPU, the same in any batch.

    The purpose is the key of a Philox generator and the id a part of its counter, so no two samples draw the same: from
    equal latents, a generator would make the same image twice.

    Args:
        draw: ``uniform`` on [-1, 1) or standard ``normal``.
        shape: shape of one sample's draw.
        ids: (N,) int64 ids of the samples, at least 0.
        seed: the stage's seed.
        purpose: what the draw is for.
    """
    if draw not in ("uniform", "normal"):
        raise ValueError(f"draw = {draw!r} should be 'uniform' or 'normal'")
    bits = np.random.Philox(key=derive_seed(seed, purpose))
    source, state = np.random.Generator(bits), bits.state
    fill = source.standard_normal if draw == "normal" else source.random
    values = np.empty((len(ids), *shape), np.float32)
    for row, sample in zip(values, ids.tolist(), strict=True):
        state["state"]["counter"][-1] = sample  # to make a generator for each would take three times as long
        bits.state = state
        fill(dtype=np.float32, out=row)
    return torch.from_numpy(values if draw == "normal" else values * 2 - 1)
