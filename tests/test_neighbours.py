"""Nearest neighbours against brute force in float64, and scikit-learn's regression."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn.neighbors import KNeighborsRegressor

from robustprune.scores import neighbours
from robustprune.scores.extrapolated import Distance
from robustprune.scores.neighbours import Neighbours, Points, Space, nearest
from robustprune.scores.regression import predict, quality

METRICS: list[Distance] = ["cosine", "euclidean"]
CPU = torch.device("cpu")


def search(
    targets: npt.NDArray[Any], sources: npt.NDArray[Any], metric: Distance, k: int, rows: npt.NDArray[Any] | None = None
) -> Neighbours:
    points = Points(sources, np.arange(len(sources)) if rows is None else rows)
    return nearest(torch.from_numpy(targets).float(), points, Space(metric, points), k=k)


def brute_force(targets: npt.NDArray[Any], sources: npt.NDArray[Any], metric: Distance, k: int) -> Neighbours:
    """All distances in float64, sorted, of equal ones the lower row first."""
    distance = cdist(targets.astype(np.float64), sources.astype(np.float64), metric)
    row = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return Neighbours(np.take_along_axis(distance, row, 1).astype(np.float32), row)


def normal(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("count", "k"), [(1, 1), (63, 5), (64, 64), (65, 1), (1000, 7), (1000, 1000), (3000, 35)])
@pytest.mark.parametrize("block", [64, 192, 8192])
def test_it_is_brute_force_whatever_the_blocks(
    metric: Distance, count: int, k: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", block)
    targets, sources = normal(50, 8, seed=1), normal(count, 8)
    found, expected = search(targets, sources, metric, k), brute_force(targets, sources, metric, k)
    exact = np.take_along_axis(cdist(targets, sources, metric), found.row, 1)
    assert all(len(set(row)) == k for row in found.row.tolist())
    np.testing.assert_allclose(exact, expected.distance, rtol=1e-5, atol=1e-6)  # rounding may swap two of 1,000
    np.testing.assert_allclose(found.distance, expected.distance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("block", [64, 8192])
def test_of_equally_near_points_those_of_the_lowest_rows_are_taken(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few integers: float32 inner products and the mean of both halves are exact, and most distances are equal."""
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", block)
    half = np.random.default_rng(0).integers(-1, 2, (300, 3)).astype(np.float32)
    sources = np.concatenate([half, -half])
    targets = np.random.default_rng(1).integers(-2, 3, (40, 3)).astype(np.float32)
    found, expected = search(targets, sources, "euclidean", 20), brute_force(targets, sources, "euclidean", 20)
    assert np.array_equal(found.row, expected.row)
    assert np.array_equal(found.distance, expected.distance)


def test_equal_points_are_taken_in_order_over_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", 64)
    found = search(np.ones((3, 2), np.float32), np.ones((500, 2), np.float32), "cosine", 100)
    assert np.array_equal(found.row, np.tile(np.arange(100), (3, 1)))


def test_a_vector_without_direction_is_similar_to_nothing() -> None:
    sources = np.array([[0, 0], [-1, 0], [0, 2], [3, 0]], np.float32)
    found = search(np.array([[1, 0], [0, 0]], np.float32), sources, "cosine", 4)
    assert found.row.tolist() == [[3, 0, 2, 1], [0, 1, 2, 3]]
    assert found.distance.tolist() == [[0, 1, 1, 2], [1, 1, 1, 1]]


def test_vectors_far_from_zero_keep_their_euclidean_neighbours() -> None:
    """Uncentred, squares of 3e7 in float32 would drown differences of 1."""
    targets, sources = normal(50, 8, seed=1) + 2000, normal(1000, 8) + 2000
    found, expected = search(targets, sources, "euclidean", 5), brute_force(targets, sources, "euclidean", 5)
    assert np.array_equal(found.row, expected.row)
    np.testing.assert_allclose(found.distance, expected.distance, rtol=1e-3)


@pytest.mark.parametrize("metric", METRICS)
def test_only_the_given_rows_are_neighbours_and_half_precision_is_read(metric: Distance) -> None:
    targets, sources = normal(20, 8, seed=1), normal(900, 8).astype(np.float16)
    rows = np.arange(1, 900, 3)
    found, expected = search(targets, sources, metric, 6, rows), brute_force(targets, sources[rows], metric, 6)
    assert np.array_equal(found.row, rows[expected.row])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("weighting", ["mean", "distance"])
def test_predictions_are_scikit_learns(metric: Distance, weighting: Any) -> None:
    targets, sources = normal(80, 6, seed=1), normal(700, 6)
    scores = normal(700, seed=2)
    found = search(targets, sources, metric, 9)
    ours = predict(scores[found.row], found.distance, weighting=weighting)
    weights = "uniform" if weighting == "mean" else "distance"
    regressor = KNeighborsRegressor(9, weights=weights, metric=metric, algorithm="brute")
    theirs = regressor.fit(sources.astype(np.float64), scores).predict(targets.astype(np.float64))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_neighbours_at_distance_zero_count_alone() -> None:
    scores, distance = np.array([[1.0, 3, 50]]), np.array([[0, 0, 1]], np.float32)
    assert predict(scores, distance, weighting="distance").tolist() == [2]
    assert predict(scores, distance, weighting="mean").tolist() == [18]
    weighted = predict(np.array([[1.0, 4]]), np.array([[1, 2]], np.float32), weighting="distance")
    assert weighted.tolist() == [2]  # (1 / 1 + 4 / 2) / (1 / 1 + 1 / 2)


def test_the_errors_by_hand_and_spearman_by_scipy() -> None:
    true = np.array([0, 1, 2, 5], np.float32)
    found = quality(np.array([0, 2, 2, 4], np.float32), true, constant=2)
    assert (found.mae, found.constant_mae) == (0.5, 1.5)
    noisy, exact = np.round(normal(200), 1), np.round(normal(200) + normal(200, seed=1), 1)  # with ties
    spearman = quality(noisy, exact, constant=0).spearman
    assert spearman == pytest.approx(spearmanr(noisy, exact).statistic, abs=1e-12)
    assert quality(np.ones(4, np.float32), true, constant=0).spearman is None


def test_the_benchmark_runs_and_all_searches_agree() -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "extrapolation.py"
    sizes = ["--sources", "700", "--targets", "90", "--dimension", "16", "--k", "5", "--rounds", "2", "--threads", "1"]
    done = subprocess.run([sys.executable, script, *sizes], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("90 x 700, D = 16, k = 5, 1 threads, median of 2\nours ")
    assert "scikit-learn" in done.stdout
