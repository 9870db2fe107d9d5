"""Manifests: what they hold, and that one which belongs to other pools is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustprune.cli import main
from robustprune.errors import UserError
from robustprune.pools.format import Pool, PoolInfo
from robustprune.pruning.manifest import MANIFEST_FILE, Rows, read_manifest, read_metadata, read_rows, write_manifest
from robustprune.pruning.overlap import agreement, compare_manifests


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


def rows(**columns: Any) -> Rows:
    content: dict[str, Any] = {
        "pool": np.array([0, 0, 1, 1], np.int32),
        "index": np.array([2, 7, 3, 19]),
        "label": np.array([2, 1, 0, 1], np.int16),
        "score": np.array([-0.1, 0.3, 0.2, 0.1], np.float32),
        "epsilon": np.array([-0.1, 0.1, 0.1, 0.1], np.float32),
    }
    return Rows(**content | columns)


def write(folder: Path, content: Rows | None = None, **spec: str) -> Path:
    metadata = {"facts": {"kept": 4}, "spec": spec}
    write_manifest(folder / MANIFEST_FILE, content or rows(), pools=POOLS, metadata=metadata)
    return folder


def test_a_manifest_is_read_back(tmp_path: Path) -> None:
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
        ("index", [2, 10, 3, 19], "at most 9"),
        ("index", [2, 2, 3, 19], "each once"),
        ("index", [7, 2, 3, 19], "rise from 0"),
        ("label", [2, 1, 1, 1], "1 labels differ"),
        ("epsilon", [0.1, np.nan, 0.1, np.inf], "2 values of epsilon are not finite"),
    ],
)
def test_rows_that_no_pool_has_are_refused(tmp_path: Path, column: str, values: list[float], says: str) -> None:
    content = rows(**{column: np.array(values, getattr(rows(), column).dtype)})
    with pytest.raises(UserError, match=says):
        read_manifest(write(tmp_path, content), POOLS)


def test_a_row_may_come_twice_where_images_are_drawn_with_replacement(tmp_path: Path) -> None:
    content = rows(index=np.array([2, 2, 3, 19]), label=np.array([2, 2, 0, 1], np.int16))
    kept = read_manifest(write(tmp_path, content, strategy="random_with_replacement"), POOLS)
    assert kept["toy-train-0000000000"].rows.tolist() == [2, 2]


def save_frame(frame: pd.DataFrame, path: Path, metadata: dict[bytes, bytes]) -> None:
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(metadata), path)


def test_a_manifest_edited_with_pandas_is_read_and_one_with_a_strange_pool_is_not(tmp_path: Path) -> None:
    path = write(tmp_path) / MANIFEST_FILE
    table = pq.read_table(path)
    frame = table.to_pandas().iloc[[0, 2, 3]]
    pq.write_table(
        pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(table.schema.metadata), path
    )
    kept = read_manifest(tmp_path, POOLS)
    assert kept["toy-train-0000000000"].rows.tolist() == [2]
    assert kept["toy-generated-1111111111"].rows.tolist() == [3, 19]
    frame["pool"] = "toy-other-2222222222"
    pq.write_table(
        pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(table.schema.metadata), path
    )
    with pytest.raises(UserError, match="toy-other-2222222222"):
        read_manifest(tmp_path, POOLS)


@given(st.sets(st.integers(0, 29)), st.sets(st.integers(0, 29)))
def test_agreement_against_sets(first: set[int], second: set[int]) -> None:
    found = agreement(len(first), len(second), len(first & second), 30)
    assert found.same_decision == pytest.approx(sum((i in first) == (i in second) for i in range(30)) / 30)
    assert found.of_all == pytest.approx(len(first & second) / 30)
    if first:
        assert found.of_first == pytest.approx(sum(i in second for i in first) / len(first))
    if first | second:
        assert found.jaccard == pytest.approx(len(first & second) / len(first | second))


def test_the_numbers_of_nieth_cannot_all_be_true() -> None:
    """With sets of half the images, s = q, J = q / (2 - q) and the share of all is q / 2 (facts N11)."""
    found = agreement(500, 500, 335, 1000)
    assert (found.same_decision, found.of_first) == pytest.approx((0.67, 0.67))
    assert (found.jaccard, found.of_all) == pytest.approx((0.67 / 1.33, 0.335))


def test_two_manifests_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [tmp_path / name for name in "AB"]
    contents = [([2, 7, 3, 19], [2, 1, 0, 1]), ([2, 8, 3, 19], [2, 2, 0, 1])]
    for folder, (index, labels) in zip(folders, contents, strict=True):
        folder.mkdir()
        content = rows(index=np.array(index), label=np.array(labels, np.int16))
        counts = {str(label): labels.count(label) for label in range(3)}
        write_manifest(
            folder / MANIFEST_FILE,
            content,
            pools=POOLS,
            metadata={"facts": {"images": 30, "kept": 4, "kept_by_class": counts}},
        )
    assert main(["show", *map(str, folders)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("4 of 30 images kept")
    found = [[float(word) for word in line.split()[-2:]] for line in lines[3:7]]
    assert found == [[0.9333, 0.9333], [0.75, 0.9615], [0.6, 0.9259], [0.1, 0.8333]]
    assert lines[-2].split() == ["1", "2", "1", "0.5000", "0.2500", "-0.2500"]


def test_manifests_of_other_images_are_not_compared(tmp_path: Path) -> None:
    for name, pools in (("A", POOLS), ("B", {**POOLS, "toy-train-0000000000": pool(10, "c" * 64)})):
        (tmp_path / name).mkdir()
        write_manifest(tmp_path / name / MANIFEST_FILE, rows(), pools=pools, metadata={"facts": {"images": 30}})
    with pytest.raises(UserError, match="choose from other images"):
        compare_manifests(tmp_path / "A", tmp_path / "B")


def test_a_manifest_without_a_score_says_null(tmp_path: Path) -> None:
    path = write(tmp_path, rows(score=None)) / MANIFEST_FILE
    assert pq.read_table(path)["score"].null_count == 4
    assert read_rows(path)[0].score is None


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="not a readable manifest"):
        read_metadata(tmp_path / MANIFEST_FILE)
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / MANIFEST_FILE)
    with pytest.raises(UserError, match="not a readable manifest"):
        read_metadata(tmp_path / MANIFEST_FILE)
