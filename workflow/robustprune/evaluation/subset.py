"""Which test images a model is measured on: all, or a fixed subset with as many of each class as can be."""

import numpy as np
import numpy.typing as npt

from robustprune.pools.drawing import Rows, draw_of_each
from robustprune.pools.format import AnyLabels

DEFINITION = 1

SEED = 0  # for ever, so that all models and seeds are measured on the same images


def balanced_subset(labels: AnyLabels, count: int | None, *, classes: int) -> Rows:
    """Rows of a pool, as many of each class as can be; a smaller subset is part of a larger one.

    Where a class has fewer images, it has them all, and the others have more.

    Args:
        labels: (N,) of all images of the pool.
        count: images wanted; None, or as many as there are, for all.
        classes: number of classes.

    Returns:
        (min(count, N),) int64, ascending.
    """
    if count is None or count >= len(labels):
        return np.arange(len(labels))
    shares = even_shares(np.bincount(labels, minlength=classes), count)
    return draw_of_each(labels, shares, seed=SEED, origin="the test images")


def even_shares(images: npt.NDArray[np.int64], count: int) -> list[int]:
    """How many of each class make ``count``, none of more than it has; the first classes have one more than others.

    Args:
        images: (K,) of each class, at least ``count`` in all.
        count: images wanted.
    """
    most = min(int(images.max()), count)
    level = int(np.searchsorted([np.minimum(images, level).sum() for level in range(most + 1)], count))
    shares = np.minimum(images, max(level - 1, 0))
    larger = np.flatnonzero(images > shares)[: count - int(shares.sum())]
    shares[larger] += 1
    return [int(share) for share in shares]
