"""What an attack is given: images as floats, and a model that can be attacked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from robustprune.images.pool import AnyLabels, Pool

DEFINITION = {"attacks.inputs": 1}

CHECKED_IMAGES = 64  # enough of a pool to tell


def as_inputs(pool: Pool, start: int, stop: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows ``start`` ... ``stop`` - 1 of a pool: (N, C, H, W) float32 in [0, 1] and (N,) int64 labels."""
    return inputs_at(pool, slice(start, stop), device)


def inputs_at(pool: Pool, rows: slice | AnyLabels, device: torch.device) -> tuple[Tensor, Tensor]:
    """Any rows of a pool: (N, C, H, W) float32 in [0, 1] and (N,) int64 labels."""
    images = torch.from_numpy(np.array(pool.images[rows])).to(device)
    labels = torch.from_numpy(pool.labels[rows].astype(np.int64)).to(device)
    return images.to(torch.float32) / 255, labels
