"""Density and separation of classes in a plane, against squares and points whose areas and distances are known."""

import numpy as np
import pytest

from robustprune.experiments.studies.tsne import plane, standardised
from robustprune.experiments.studies.tsne_classes import (
    TsneSettings,
    classes_with_area,
    density,
    separation,
    without_tail,
)

SQUARE = np.array([(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)], np.float32)  # 5 points, area 4


def test_the_density_is_points_per_area() -> None:
    assert density([SQUARE], 5) == pytest.approx(5 / 4)
    assert density([SQUARE, 2 * SQUARE], 5) == pytest.approx((5 / 4 + 5 / 16) / 2)


def test_the_density_does_not_depend_on_how_many_images_there_are() -> None:
    """Of one distribution: images per area of the whole hull would be ten times as many."""
    many = np.random.default_rng(0).normal(size=(2000, 2)).astype(np.float32)
    whole, part = (density([points], 40) for points in (many, many[:200]))
    assert whole == pytest.approx(part, rel=0.1)
    assert density([many[:39]], 40) is None
    assert density([many[:39], SQUARE], 5) is not None


def test_the_separation_is_the_mean_squared_distance_to_the_nearest_centroid() -> None:
    shifts = np.array([(0, 0), (3, 0), (3, 5)], np.float32)
    assert separation([SQUARE + shift for shift in shifts]) == pytest.approx((9 + 9 + 25) / 3)


def test_the_farthest_hundredth_is_cut() -> None:
    points = np.zeros((200, 2), np.float32)
    points[:, 0] = np.arange(200) / 1000
    points[[7, 90]] = (50, 60)
    kept = without_tail(points)
    assert len(kept) == 198
    assert kept.max() < 1
    assert len(without_tail(points[:99])) == 99


def test_a_class_of_too_few_images_has_no_area_and_is_left_out() -> None:
    points = np.concatenate([SQUARE, SQUARE + 10, SQUARE[:3] + 20])
    labels = np.repeat([3, 5, 7], [5, 5, 3])
    classes = classes_with_area(points, labels)
    assert [len(one) for one in classes] == [5, 5]
    assert density(classes, 5) == pytest.approx(5 / 4)
    assert separation(classes) == pytest.approx(200)


def test_axes_are_standardised() -> None:
    points = standardised(np.random.default_rng(0).normal(5, 3, (100, 2)))
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(points.std(0), 1, atol=1e-6)


def test_classes_far_apart_lie_far_apart_and_a_seed_decides() -> None:
    chance = np.random.default_rng(0)
    images = chance.integers(0, 40, (60, 1, 6, 6)).astype(np.uint8)
    images[30:] += 200
    settings = TsneSettings(perplexity=10, components=5)
    points = plane(images, settings, seed=0)
    one, other = points[:30], points[30:]
    between = np.linalg.norm(one.mean(0) - other.mean(0))
    assert between > 2 * max(part.std(0).max() for part in (one, other))
    np.testing.assert_array_equal(points, plane(images, settings, seed=0))
