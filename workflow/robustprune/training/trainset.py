"""The images a model learns from: the kept rows of each pool, each with its radius."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from robustprune.core.errors import UserError
from robustprune.images.pool import AnyLabels, Images, Pool, open_pool
from robustprune.pruning.manifest import read_manifest

if TYPE_CHECKING:
    from robustprune.core.job import Job
    from robustprune.training.model import ModelStage

DEFINITION = {"training.trainset": 1}

CHANCE = 1e-6  # that so many classes are missing among as many random images, below which it is no chance


class Stratum(NamedTuple):
    """Kept images that follow one another and of which a batch has a share of its own.

    Attributes:
        images: how many there are.
        share: of the pool's images in a batch; None where there is but one stratum.
    """

    images: int
    share: Fraction | None = None


@dataclass(frozen=True)
class KeptImages:
    """The rows of one pool that are trained on.

    Attributes:
        pool: the open pool.
        rows: (M,) int64 row of each kept image, ascending; an image drawn twice is there twice.
        epsilon: (M,) float32 signed radius of each.
    """

    pool: Pool
    rows: npt.NDArray[np.int64]
    epsilon: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of the kept images, as uint8."""
        return len(self) * math.prod(self.pool.info.image_shape)

    @property
    def strata(self) -> tuple[Stratum, ...]:
        """The images of each member where the pool is a union with shares, else all; in the order of ``rows``."""
        members = self.pool.info.members
        if any(member.share is None for member in members) or not members:
            return (Stratum(len(self)),)
        assert (np.diff(self.rows) >= 0).all()
        bounds = np.searchsorted(self.rows, np.cumsum([0, *(member.count for member in members)]))
        return tuple(Stratum(int(n), one.share) for n, one in zip(np.diff(bounds), members, strict=True))

    def at(self, positions: npt.NDArray[np.int64]) -> KeptImages:
        """Those at ``positions`` in the kept rows."""
        return KeptImages(self.pool, self.rows[positions], self.epsilon[positions])

    def read(self, positions: npt.NDArray[np.int64]) -> tuple[Images, npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Images (N, C, H, W), labels (N,) and signed radii (N,) at ``positions`` in the kept rows."""
        rows = self.rows[positions]
        return self.pool.images[rows], self.pool.labels[rows].astype(np.int64), self.epsilon[positions]


def load_training_images(job: Job, spec: ModelStage) -> list[KeptImages]:
    """The kept images of each of the spec's pools, the real one first.

    Without a manifest every row is kept at the radius epsilon, but for the validation images.

    Raises:
        UserError: when a pool is unreadable, the manifest belongs to other pools, nothing of a pool is left, or its
            validation images lack classes that a fair sample would have.
    """
    pools = {pool_id: open_pool(job.upstream("pools", pool_id)) for pool_id in spec.pools}
    if spec.manifest is None:
        kept = [_all_rows(pool, spec, skip_validation=pool_id == spec.real) for pool_id, pool in pools.items()]
    else:
        manifest = read_manifest(job.upstream("manifests", spec.manifest), pools)
        kept = [KeptImages(pool, *manifest[pool_id]) for pool_id, pool in pools.items()]
    if (found := len(pools[spec.real])) < spec.training.validation_images:
        raise UserError(
            f"training.{spec.training.recipe}.validation_images = {spec.training.validation_images}, but {spec.real} "
            f"has {found} images"
        )
    _refuse_unfair(spec, pools[spec.real])
    refuse_empty(spec, kept, advice="lower pruning.ratio or validation_images")
    return kept


def _refuse_unfair(spec: ModelStage, pool: Pool) -> None:
    """The first images of a pool in the order of its classes are of few, which would be validated on and not learnt."""
    recipe = spec.training
    count = recipe.validation_images if recipe.validates else recipe.held_out_images
    missing = missing_classes(pool.info.class_counts, pool.labels[:count])
    if missing:
        raise UserError(
            f"training.{recipe.recipe}.validation_images = {count}, but the first {count} images of {spec.real} lack "
            f"{missing} of its classes, so they are no fair sample; shuffle the images, of generated ones by a subset, "
            "or set it to 0"
        )


def missing_classes(images: Sequence[int], labels: AnyLabels) -> int:
    """Return how many classes some images of a pool lack; 0 where random ones may lack so many.

    Args:
        images: of each class in the pool.
        labels: of some of them.
    """
    shares = np.array([count for count in images if count]) / sum(images)
    missing = len(shares) - len(np.unique(labels))
    if not len(labels) or not missing:
        return 0
    # How many are missing among random images is close to Poisson's distribution.
    expected = np.exp(len(labels) * np.log1p(-shares)).sum()
    return missing if special.gammainc(missing, expected) < CHANCE else 0


def refuse_empty(spec: ModelStage, kept: list[KeptImages], *, advice: str) -> None:
    """Raise UserError, with ``advice``, when nothing of a pool, or of a member with a share of its own, is left."""
    for pool_id, images in zip(spec.pools, kept, strict=True):
        if min(stratum.images for stratum in images.strata) == 0:
            part = "" if len(images) == 0 else "one of the pools in "
            raise UserError(f"no image of {part}{pool_id} is left to train on; {advice}")


def _all_rows(pool: Pool, spec: ModelStage, *, skip_validation: bool) -> KeptImages:
    first = spec.training.held_out_images if skip_validation else 0
    rows = np.arange(first, len(pool), dtype=np.int64)
    epsilon = 0.0 if spec.threat is None else float(spec.threat.epsilon)
    return KeptImages(pool, rows, np.full(len(rows), epsilon, dtype=np.float32))
