"""Which images are kept: one small function a strategy, registered by the papers' name.

To add one: write ``def name(scores, drop, rng) -> keep`` here, put it into ``STRATEGIES``, and its name into
``settings.Strategy``.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from robustprune.settings import Strategy

DEFINITION = 1

Scores = npt.NDArray[np.float32]
Keep = npt.NDArray[np.bool_]


def keep_all(scores: Scores, drop: int, rng: np.random.Generator) -> Keep:
    """Drop nothing."""
    return np.ones(len(scores), dtype=bool)


def random(scores: Scores, drop: int, rng: np.random.Generator) -> Keep:
    """Drop ``drop`` images at random, without replacement."""
    keep = np.ones(len(scores), dtype=bool)
    keep[rng.permutation(len(scores))[:drop]] = False
    return keep


def puma(scores: Scores, drop: int, rng: np.random.Generator) -> Keep:
    """Drop the ``drop`` images of highest margin, ties in random order (PUMA, Section 4)."""
    keep = np.ones(len(scores), dtype=bool)
    order = np.lexsort((rng.random(len(scores)), -scores))
    keep[order[:drop]] = False
    return keep


STRATEGIES: dict[Strategy, Callable[[Scores, int, np.random.Generator], Keep]] = {
    "none": keep_all,
    "random": random,
    "puma": puma,
}
"""Each takes (N,) scores, the number to drop and a seeded generator, and returns the (N,) mask of what is kept."""


def choose(strategy: Strategy, scores: Scores, *, ratio: float, seed: int) -> Keep:
    """The mask of kept images.

    Args:
        strategy: a name in ``STRATEGIES``.
        scores: (N,) float32; infinite where no boundary was found.
        ratio: share to drop; the number is rounded to the nearest image.
        seed: seed of random choices and of the order of ties.

    Raises:
        ValueError: when a score is NaN, that is, was never computed.
    """
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores are NaN (not computed)")
    return STRATEGIES[strategy](scores, round(ratio * len(scores)), np.random.default_rng(seed))
