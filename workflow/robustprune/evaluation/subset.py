"""Which test images a model is measured on: all, or a fixed subset with as many of each class."""

import numpy as np

from robustprune.pools.drawing import Rows, draw_rows
from robustprune.pools.format import AnyLabels

DEFINITION = 1

SEED = 0  # for ever, so that all models and seeds are measured on the same images


def balanced_subset(labels: AnyLabels, count: int | None, *, classes: int) -> Rows:
    """Rows of a pool, as many of each class; a smaller subset is part of a larger one.

    Args:
        labels: (N,) of all images of the pool.
        count: images wanted; None, or as many as there are, for all.
        classes: number of classes.

    Returns:
        (min(count, N),) int64, ascending.

    Raises:
        UserError: when a class has too few images.
    """
    if count is None or count >= len(labels):
        return np.arange(len(labels))
    return draw_rows(labels, count, classes=classes, balanced=True, seed=SEED, origin="the test images")
