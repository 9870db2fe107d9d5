"""The images a model learns from: the kept rows of each pool, each with its radius."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustprune.errors import UserError
from robustprune.job import Job
from robustprune.pools.format import Pool, open_pool
from robustprune.pruning.manifest import read_manifest
from robustprune.specs import ModelSpec

DEFINITION = 1


class Batch(NamedTuple):
    """What one step sees.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
        epsilon: (N,) float32, signed radius: negative for anti-adversarial.
    """

    images: Tensor
    labels: Tensor
    epsilon: Tensor


@dataclass(frozen=True)
class KeptImages:
    """The rows of one pool that are trained on.

    Attributes:
        pool: the open pool.
        rows: (M,) int64 row of each kept image.
        epsilon: (M,) float32 signed radius of each.
    """

    pool: Pool
    rows: npt.NDArray[np.int64]
    epsilon: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: Tensor, device: torch.device) -> Batch:
        """The images at ``positions`` (int64, into the kept rows), moved to ``device``."""
        chosen = positions.numpy()
        rows = self.rows[chosen]
        return Batch(
            torch.from_numpy(self.pool.images[rows]).to(device),
            torch.from_numpy(self.pool.labels[rows].astype(np.int64)).to(device),
            torch.from_numpy(self.epsilon[chosen]).to(device),
        )


def load_training_images(job: Job, spec: ModelSpec) -> list[KeptImages]:
    """The kept images of each of the spec's pools, the real one first.

    Without a manifest every row is kept at the radius epsilon, but for the validation images.

    Raises:
        UserError: when a pool is unreadable, the manifest belongs to other pools, or nothing of a pool is left.
    """
    pools = {pool_id: open_pool(job.upstream("pools", pool_id)) for pool_id in spec.pools}
    if spec.manifest is None:
        kept = [_all_rows(pool, spec, skip_validation=pool_id == spec.real) for pool_id, pool in pools.items()]
    else:
        manifest = read_manifest(job.upstream("manifests", spec.manifest), pools)
        kept = [KeptImages(pool, *manifest[pool_id]) for pool_id, pool in pools.items()]
    for pool_id, images in zip(spec.pools, kept, strict=True):
        if len(images) == 0:
            raise UserError(f"no image of {pool_id} is left to train on; lower pruning.ratio or validation_images")
    return kept


def _all_rows(pool: Pool, spec: ModelSpec, *, skip_validation: bool) -> KeptImages:
    first = spec.training.validation_images if skip_validation else 0
    rows = np.arange(min(first, len(pool)), len(pool), dtype=np.int64)
    return KeptImages(pool, rows, np.full(len(rows), float(spec.threat.epsilon), dtype=np.float32))
