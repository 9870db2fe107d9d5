"""Simulate how often a verdict is reached by chance, where two methods do not differ.

Each trial draws test images and trainings anew. An image is right where its ease plus what the training, the method and
the pair of training and image add is above a threshold; both methods have the same distribution, and their trainings of
one seed share a part. So the true difference is 0, and a verdict on either side is false. Printed: the share of trials
with a false verdict, in percent of each side (2.5 wanted, 3 allowed), of ours and of Student's interval over seeds
alone, and of a claim of 16 checks that all hold, with Holm's correction and without.

    python benchmarks/false_verdicts.py [--trials 2000]
"""

import argparse
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from robustprune.experiments.claims import SIDE, Finding, verdicts_of
from robustprune.experiments.intervals import Sample, interval_between
from robustprune.experiments.statistics import Summary

SEEDS, IMAGES = (2, 3, 10, 30), (100, 500, 10_000)
CHECKS = 16
WORLDS = {  # standard deviations: of the training, of an image under a method, of a pair; accuracy
    "seeds": (0.3, 0.1, 0.5, 0.7),
    "images": (0.0, 0.7, 0.3, 0.7),
    "both": (0.1, 0.5, 0.5, 0.4),
    "easy": (0.1, 0.3, 0.3, 0.98),
}


def two_methods(
    draws: np.random.Generator, seeds: int, images: int, world: tuple[float, float, float, float]
) -> tuple[Sample, Sample]:
    """Draw the outcomes of two methods of equal accuracy on the same new images."""
    of_training, of_image, of_pair, accuracy = world
    spread = np.sqrt(1 + of_training**2 + of_image**2 + of_pair**2)
    ease = draws.normal(size=images) + spread * np.sqrt(2) * _erfinv(2 * accuracy - 1)
    shared = draws.normal(0, of_training / np.sqrt(2), (seeds, 1))
    return _method(draws, ease, shared, world), _method(draws, ease, shared, world)


def _erfinv(value: float) -> float:
    from scipy.special import erfinv

    return float(erfinv(value))


def _method(
    draws: np.random.Generator,
    ease: npt.NDArray[np.float64],
    shared: npt.NDArray[np.float64],
    world: tuple[float, float, float, float],
) -> Sample:
    of_training, of_image, of_pair, _ = world
    seeds, images = len(shared), len(ease)
    own = draws.normal(0, of_training / np.sqrt(2), (seeds, 1)) + draws.normal(0, of_image, images)
    right = ease + shared + own + of_pair * draws.standard_normal((seeds, images), np.float32) > 0
    return Sample(dict(enumerate(100 * right.mean(1))), right.astype(np.int8))


def false_sides(
    draws: np.random.Generator, seeds: int, images: int, world: tuple[float, float, float, float], trials: int
) -> Iterator[tuple[int, int]]:
    """Yield the side of the false verdict, -1 or 1, or 0: by our interval, and by that over seeds alone."""
    for _ in range(trials):
        first, second = two_methods(draws, seeds, images, world)
        interval = interval_between(first, second)
        assert interval is not None
        alone = Summary.of(list(first.minus(second).by_seed.values()), exact=True)
        assert alone.ci95 is not None
        yield _side(interval.middle, interval.half()), _side(alone.mean, alone.ci95)


def _side(middle: float, half: float) -> int:
    return int(middle > half) - int(middle < -half)


def failed_claims(draws: np.random.Generator, seeds: int, trials: int) -> tuple[float, float]:
    """Return the share of claims of ``CHECKS`` checks that disagree by chance: by Holm's correction, and without."""
    check: Any = SimpleNamespace(relation="above", within=None)
    with_holm = without = 0
    for _ in range(trials):
        pairs = (two_methods(draws, seeds, 500, WORLDS["both"]) for _ in range(CHECKS))
        found = [Finding(check, "", interval_between(*pair)) for pair in pairs]
        with_holm += "disagrees" in verdicts_of(found)
        without += any(one.p_against <= SIDE for one in found)
    return with_holm / trials, without / trials


def main() -> None:
    """Print a table for each kind of spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    draws = np.random.default_rng(0)
    print("| spread by | seeds | images | below, % | above, % | seeds alone: below | above |")
    print("|---|---|---|---|---|---|---|")
    for name, world in WORLDS.items():
        for seeds in SEEDS:
            for images in IMAGES:
                sides = np.array(list(false_sides(draws, seeds, images, world, trials)))
                shares = [100 * (sides[:, which] == side).mean() for which in (0, 1) for side in (-1, 1)]
                print(
                    f"| {name} | {seeds} | {images:,} | {' | '.join(f'{share:.1f}' for share in shares)} |", flush=True
                )
    for seeds in SEEDS:
        holm, without = (100 * share for share in failed_claims(draws, seeds, max(trials // 10, 100)))
        print(f"{CHECKS} checks, {seeds} seeds: {holm:.1f} % fail by chance, without Holm's correction {without:.1f} %")


if __name__ == "__main__":
    main()
