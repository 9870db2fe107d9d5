"""Strategies and radii against brute force; manifests that belong to other pools are refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robustprune.errors import UserError
from robustprune.pools.format import Pool, PoolInfo
from robustprune.pruning.manifest import MANIFEST_FILE, read_manifest, read_metadata, write_manifest
from robustprune.pruning.radii import RADIUS_RULES
from robustprune.pruning.strategies import STRATEGIES, choose

floats = st.floats(-1, 1, width=32) | st.sampled_from([np.float32(np.inf), np.float32(-np.inf), np.float32(0.5)])
scores_and_ratio = st.tuples(
    hnp.arrays(np.float32, st.integers(1, 60), elements=floats), st.floats(0, 1, exclude_max=True)
)


@given(scores_and_ratio)
def test_puma_drops_exactly_the_highest(case: tuple[np.ndarray, float]) -> None:
    scores, ratio = case
    keep = choose("puma", scores, ratio=ratio, seed=0)
    drop = round(ratio * len(scores))
    assert (~keep).sum() == drop
    expected = sorted(scores.tolist())[: len(scores) - drop]
    assert sorted(scores[keep].tolist()) == expected


@given(scores_and_ratio)
def test_random_drops_the_same_number_whatever_the_scores(case: tuple[np.ndarray, float]) -> None:
    scores, ratio = case
    keep = choose("random", scores, ratio=ratio, seed=0)
    assert (~keep).sum() == round(ratio * len(scores))
    np.testing.assert_array_equal(keep, choose("random", scores[::-1].copy(), ratio=ratio, seed=0))


def test_ties_are_broken_by_the_seed_and_not_by_position() -> None:
    scores = np.zeros(1000, np.float32)
    first, second = (choose("puma", scores, ratio=0.5, seed=seed) for seed in (0, 1))
    assert (first != second).any()
    assert 200 < first[:500].sum() < 300
    np.testing.assert_array_equal(first, choose("puma", scores, ratio=0.5, seed=0))


def test_none_keeps_everything() -> None:
    assert choose("none", np.zeros(5, np.float32), ratio=0.0, seed=0).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_scores_that_were_not_computed_are_refused(strategy: str) -> None:
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        choose(strategy, np.array([0, np.nan], np.float32), ratio=0.5, seed=0)  # type: ignore[arg-type]


def test_radii_by_hand() -> None:
    margins = np.array([-np.inf, -0.2, -0.05, 0, 0.07, 0.3, np.inf], np.float32)
    np.testing.assert_array_equal(
        RADIUS_RULES["margin"](margins, 0.1), np.array([-0.1, -0.1, -0.05, 0, 0.07, 0.1, 0.1], np.float32)
    )
    np.testing.assert_array_equal(RADIUS_RULES["constant"](margins, 0.1), np.full(7, 0.1, np.float32))


def pool(count: int, digest: str) -> Pool:
    info = PoolInfo(
        dataset="toy",
        source="test",
        classes=3,
        image_shape=(1, 4, 4),
        count=count,
        class_counts=(count, 0, 0),
        digest=digest,
    )
    return Pool(np.zeros((count, 1, 4, 4), np.uint8), np.arange(count, dtype=np.int16) % 3, info)


POOLS = {"toy-train-0000000000": pool(10, "a" * 64), "toy-generated-1111111111": pool(20, "b" * 64)}


def write(folder: Path, frame: pd.DataFrame | None = None) -> Path:
    rows = pd.DataFrame(
        {
            "pool": ["toy-generated-1111111111"] * 2 + ["toy-train-0000000000"] * 2,
            "index": [19, 3, 7, 2],
            "label": [1, 0, 1, 2],
            "score": [0.1, 0.2, 0.3, -0.1],
            "epsilon": [0.1, 0.1, 0.1, -0.1],
        }
    )
    write_manifest(folder / MANIFEST_FILE, rows if frame is None else frame, pools=POOLS, facts={"facts": {"kept": 4}})
    return folder


def test_a_manifest_is_sorted_and_read_back(tmp_path: Path) -> None:
    kept = read_manifest(write(tmp_path), POOLS)
    rows, radii = kept["toy-train-0000000000"]
    assert rows.tolist() == [2, 7]
    np.testing.assert_allclose(radii, [-0.1, 0.1])
    assert kept["toy-generated-1111111111"][0].tolist() == [3, 19]


def test_a_manifest_is_readable_without_our_code(tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path) / MANIFEST_FILE)
    assert table.column_names == ["pool", "index", "label", "score", "epsilon"]
    assert table.to_pandas()["pool"].tolist() == ["toy-train-0000000000"] * 2 + ["toy-generated-1111111111"] * 2
    assert json.loads(table.schema.metadata[b"robustprune"])["facts"] == {"kept": 4}


def test_a_manifest_for_other_pools_is_refused(tmp_path: Path) -> None:
    others = {**POOLS, "toy-train-0000000000": pool(10, "c" * 64)}
    with pytest.raises(UserError, match="was made for the pools"):
        read_manifest(write(tmp_path), others)


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("index", [19, 3, 10, 2], "at most 9"),
        ("index", [19, 3, 2, 2], "each once"),
        ("label", [1, 0, 0, 2], "1 labels differ"),
    ],
)
def test_rows_that_no_pool_has_are_refused(tmp_path: Path, column: str, values: list[int], says: str) -> None:
    frame = pq.read_table(write(tmp_path) / MANIFEST_FILE).to_pandas().iloc[[3, 2, 1, 0]].assign(**{column: values})
    with pytest.raises(UserError, match=says):
        read_manifest(write(tmp_path, frame), POOLS)


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="not a readable manifest"):
        read_metadata(tmp_path / MANIFEST_FILE)
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / MANIFEST_FILE)
    with pytest.raises(UserError, match="not a readable manifest"):
        read_metadata(tmp_path / MANIFEST_FILE)
