"""What a classifier sees in images, and which real one each is nearest to; row by row, so that a killed job goes on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from robustprune.core.rows import Columns, collect, compute_rows
from robustprune.images.drawing import draw_rows
from robustprune.scores.encoders import features_and_logits

if TYPE_CHECKING:
    from robustprune.core.job import Job
    from robustprune.evaluation.quality.memorisation import RealNeighbours
    from robustprune.images.pool import Pool

Features = npt.NDArray[np.floating[Any]]  # (N, D)


def frechet_distance(some: Features, others: Features) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), in the squared unit of the features, in float64.

    It is too large for few images, the more so the more dimensions there are: compare only at equal numbers of them.

    Args:
        some: (N, D) features of at least 2 images.
        others: (M, D) features of at least 2 other images.
    """
    (mean, covariance), (other_mean, other_covariance) = _moments(some), _moments(others)
    root = _square_root(covariance)
    # The eigenvalues of C C' are those of C^(1/2) C' C^(1/2), which is symmetric.
    cross = np.linalg.eigvalsh(root @ other_covariance @ root).clip(min=0)
    spread = np.trace(covariance) + np.trace(other_covariance) - 2 * np.sqrt(cross).sum()
    return float(np.square(mean - other_mean).sum() + max(spread, 0.0))


def _moments(features: Features) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    exact = features.astype(np.float64)
    return exact.mean(0), np.atleast_2d(np.cov(exact, rowvar=False))


def _square_root(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the square root of a symmetric matrix that is not negative, up to rounding."""
    values, vectors = np.linalg.eigh(matrix)
    root: npt.NDArray[np.float64] = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root


DEFINITION = {"quality.frechet": 1, "quality.measuring": 1}


@dataclass(frozen=True)
class Seen:
    """Some images of a pool, as the classifier sees them.

    Attributes:
        rows: (N,) of the pool, ascending.
        labels: (N,) their classes.
        features: (N, D) float32, what goes into the classifier's last layer.
        right: (N,) bool, whether the classifier says their label.
        probability: (N,) float32, of their label.
        distance: (N,) float32, to the nearest real training image; NaN where it was not looked for.
        neighbour: (N,) int64, that image's row; -1 where it was not looked for.
    """

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]
    probability: npt.NDArray[np.float32]
    distance: npt.NDArray[np.float32]
    neighbour: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Judge:
    """The classifier.

    Attributes:
        model: in eval mode.
        origin: its name, for a message.
    """

    model: nn.Module
    origin: str

    def see(self, pool: Pool, rows: npt.NDArray[np.int64], device: torch.device) -> Columns:
        """The columns of ``Seen`` that the classifier decides."""
        images = torch.from_numpy(np.array(pool.images[rows])).to(device).to(torch.float32) / 255
        labels = torch.from_numpy(pool.labels[rows].astype(np.int64)).to(device)
        features, logits = features_and_logits(self.model, images, origin=self.origin)
        probabilities = logits.softmax(dim=1)
        own = probabilities.gather(1, labels[:, None])[:, 0]
        return {
            "labels": labels.cpu().numpy(),
            "features": features.cpu().numpy(),
            "right": (probabilities.argmax(dim=1) == labels).cpu().numpy(),
            "probability": own.cpu().numpy(),
        }


def look(
    job: Job, pool: Pool, judge: Judge, neighbours: RealNeighbours | None, *, images: int | None, name: str
) -> Seen:
    """Look at images of a pool that are drawn at random, the same ones every time.

    Args:
        job: the running stage.
        pool: the pool.
        judge: the classifier.
        neighbours: finds the nearest real image; None where it is not to be looked for.
        images: how many; None or more than there are for all.
        name: of the pool in this stage.
    """
    count = min(images or len(pool), len(pool))
    rows = draw_rows(pool.labels, count, classes=pool.info.classes, balanced=False, seed=0, origin=name)
    compute = partial(_look, job, pool, judge, neighbours, rows)
    columns = collect(compute_rows(job, count, compute, what=f"looking at {name} images", name=name))
    return Seen(rows=rows, **columns)


def _look(
    job: Job,
    pool: Pool,
    judge: Judge,
    neighbours: RealNeighbours | None,
    rows: npt.NDArray[np.int64],
    start: int,
    stop: int,
) -> Columns:
    chosen = rows[start:stop]
    columns = judge.see(pool, chosen, job.device)
    columns["distance"] = np.full(len(chosen), np.nan, np.float32)
    columns["neighbour"] = np.full(len(chosen), -1, np.int64)
    if neighbours is not None:
        columns["distance"], columns["neighbour"] = neighbours.of(np.array(pool.images[chosen]))
    return columns
