"""What a manifest says of itself: how many images are kept and dropped, of which pools and classes, and the radii."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustprune.core.settings import Settings
from robustprune.scores.distribution import Histogram

if TYPE_CHECKING:
    from robustprune.pruning.candidates import Candidates

GROUP_ROWS = 2**20  # rows of a Parquet row group, which can be read alone; what is in memory at once while writing


@dataclass(frozen=True)
class Rows:
    """Kept images, sorted by pool and index.

    Attributes:
        pool: (M,) int32, which of the pools.
        index: (M,) int64, row in the pool.
        label: (M,) int16.
        score: (M,) float32, or None where the strategy goes by none.
        epsilon: (M,) float32, signed radius.
    """

    pool: npt.NDArray[np.int32]
    index: npt.NDArray[np.int64]
    label: npt.NDArray[np.int16]
    score: npt.NDArray[np.float32] | None
    epsilon: npt.NDArray[np.float32]


HISTOGRAM_BINS = 16  # of the radii, from -epsilon to epsilon


class Facts(Settings):
    """Counts of images; of a draw with replacement an image counts as often as it was drawn.

    Shares are of all images, classes are numbers, and pools are ids.
    """

    images: int
    kept: int
    dropped: int
    share_kept: float
    share_dropped: float
    kept_by_pool: dict[str, int]
    dropped_by_pool: dict[str, int]
    kept_by_class: dict[str, int]
    dropped_by_class: dict[str, int]
    kept_with_negative_radius: int
    epsilon_histogram: Histogram


def count_kept(images: "Candidates", groups: Iterable[Rows], epsilon: float) -> Facts:
    """Count what is kept, group by group.

    Args:
        images: what was chosen from.
        groups: the rows that are kept.
        epsilon: the largest radius.
    """
    by_class = _label_counts(images.labels)
    kept_by_class, kept_by_pool = np.zeros_like(by_class), np.zeros(len(images.pools), np.int64)
    radii, negative = np.zeros(HISTOGRAM_BINS, np.int64), 0
    for rows in groups:
        kept_by_class += np.bincount(rows.label, minlength=len(by_class))
        kept_by_pool += np.bincount(rows.pool, minlength=len(images.pools))
        radii += np.histogram(rows.epsilon, HISTOGRAM_BINS, (-epsilon, epsilon))[0]
        negative += int(np.count_nonzero(rows.epsilon < 0))
    kept, total = int(kept_by_pool.sum()), len(images)
    classes = range(len(by_class))
    return Facts(
        images=total,
        kept=kept,
        dropped=total - kept,
        share_kept=kept / total,
        share_dropped=1 - kept / total,
        kept_by_pool=_named(images.pools, kept_by_pool),
        dropped_by_pool=_named(images.pools, np.array(images.counts) - kept_by_pool),
        kept_by_class=_named(classes, kept_by_class),
        dropped_by_class=_named(classes, by_class - kept_by_class),
        kept_with_negative_radius=negative,
        epsilon_histogram=Histogram(2 * epsilon / HISTOGRAM_BINS, -HISTOGRAM_BINS // 2, tuple(radii.tolist())),
    )


def _label_counts(labels: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
    """Return how many images each class has; in pieces, as NumPy counts a copy of four times the size."""
    classes = int(labels.max()) + 1
    pieces = (labels[start : start + GROUP_ROWS] for start in range(0, len(labels), GROUP_ROWS))
    return np.asarray(np.sum([np.bincount(piece, minlength=classes) for piece in pieces], axis=0))


def _named(names: Iterable[Any], counts: npt.NDArray[np.int64]) -> dict[str, int]:
    return {str(name): int(number) for name, number in zip(names, counts, strict=True)}
