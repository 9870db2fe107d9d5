"""Score stores: what is written is read, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from robustprune import store as store_module
from robustprune.errors import UserError
from robustprune.files import digest
from robustprune.store import open_store, write_store

ROWS = 700


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 256 rows of chunks of 64, so that a small store has several."""
    monkeypatch.setattr(store_module, "CHUNK_ROWS", 64)
    monkeypatch.setattr(store_module, "SHARD_ROWS", 256)


def some_columns(rows: int = ROWS) -> dict[str, np.ndarray]:
    source = np.random.default_rng(0)
    margin = source.normal(size=rows).astype(np.float32)
    margin[::7], margin[1::50], margin[2::50] = np.nan, np.inf, -np.inf
    return {
        "margin": margin,
        "prediction": source.integers(0, 10, rows).astype(np.int16),
        "converged": source.random(rows) < 0.5,
    }


@pytest.fixture
def written(tmp_path: Path, small_shards: None) -> Path:
    path = tmp_path / "scores.zarr"
    write_store(path, some_columns(), {"pool_digest": "a" * 64, "sign": "large is easy"})
    return path


def test_a_round_trip_keeps_every_bit(written: Path) -> None:
    opened = open_store(written)
    assert opened.attributes == {"pool_digest": "a" * 64, "sign": "large is easy"}
    assert opened.rows == ROWS
    for name, values in some_columns().items():
        read = opened.read(name, pool_digest="a" * 64)
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read, values)


@given(rows=st.integers(1, 600))
def test_any_length_comes_back(rows: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("store") / "scores.zarr"
    write_store(path, some_columns(rows), {})
    np.testing.assert_array_equal(open_store(path).read("margin"), some_columns(rows)["margin"])


def test_the_layout_is_the_documented_one(written: Path) -> None:
    group = zarr.open_group(written, mode="r", zarr_format=3)
    array = group["margin"]
    assert isinstance(array, zarr.Array)
    assert array.metadata.to_dict()["dimension_names"] == ("sample",)
    assert array.shards == (256,)
    assert array.chunks == (64,)
    assert np.isnan(array.fill_value)
    assert group.attrs["schema_version"] == 1
    assert sorted(file.name for file in (written / "margin" / "c").iterdir()) == ["0", "1", "2"]
    assert json.loads((written / "zarr.json").read_text())["zarr_format"] == 3


def test_a_small_store_has_one_chunk_of_its_own_length(tmp_path: Path) -> None:
    write_store(tmp_path / "s.zarr", some_columns(10), {})
    array = zarr.open_array(tmp_path / "s.zarr" / "margin", mode="r")
    assert (array.chunks, array.shards) == ((10,), (10,))


def test_the_same_columns_make_the_same_bytes(written: Path) -> None:
    first = digest(written)
    write_store(written, some_columns(), {"pool_digest": "a" * 64, "sign": "large is easy"})
    assert digest(written) == first


def test_a_store_of_fill_values_has_all_its_shards(tmp_path: Path, small_shards: None) -> None:
    write_store(tmp_path / "s.zarr", {"margin": np.full(600, np.nan, np.float32)}, {})
    assert len(list((tmp_path / "s.zarr" / "margin" / "c").iterdir())) == 3


def flip_a_byte(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)


def truncate(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-10])


@pytest.mark.parametrize("damage", [flip_a_byte, truncate], ids=["flipped byte", "truncated"])
def test_a_damaged_shard_is_named(written: Path, damage: Callable[[Path], None]) -> None:
    damage(written / "margin" / "c" / "1")
    opened = open_store(written)
    with pytest.raises(UserError, match=r"margin/c/1 is damaged"):
        opened.read("margin")
    opened.read("prediction")


@pytest.mark.parametrize("damage", [flip_a_byte, truncate], ids=["flipped byte", "truncated"])
def test_zarr_alone_notices_damage_too(written: Path, damage: Callable[[Path], None]) -> None:
    """The chunks' own checksums protect readers in other languages."""
    damage(written / "margin" / "c" / "1")
    with pytest.raises(ValueError, match=r"checksum|length|size|bytes"):
        zarr.open_array(written / "margin", mode="r")[:]


def test_a_missing_shard_is_named_when_opening_and_when_reading(written: Path) -> None:
    opened = open_store(written)
    (written / "margin" / "c" / "2").unlink()
    with pytest.raises(UserError, match=r"lacks 1 of its files, first margin/c/2"):
        open_store(written)
    with pytest.raises(UserError, match=r"lacks the file margin/c/2"):
        opened.read("margin")


def test_damaged_column_metadata_is_named(written: Path) -> None:
    path = written / "margin" / "zarr.json"
    path.write_text(path.read_text().replace("700", "699"))
    with pytest.raises(UserError, match=r"margin/zarr.json is damaged"):
        open_store(written).read("margin")


def test_scores_of_another_pool_are_refused(written: Path) -> None:
    with pytest.raises(UserError, match=f"holds scores of the pool with digest {'a' * 64}, not {'b' * 64}"):
        open_store(written).read("margin", pool_digest="b" * 64)


def edit_attributes(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((path / "zarr.json").read_text())
    change(content["attributes"])
    (path / "zarr.json").write_text(json.dumps(content))


def test_a_column_of_another_length_is_refused(written: Path) -> None:
    edit_attributes(written, lambda attributes: attributes.update(rows=800))
    with pytest.raises(UserError, match=r"margin is float32 \(700,\), but should be float32 \(800,\)"):
        open_store(written).read("margin")


def test_a_column_of_another_dtype_is_refused(written: Path) -> None:
    edit_attributes(written, lambda attributes: attributes["columns"].update(margin="int16"))
    with pytest.raises(UserError, match=r"margin is float32 \(700,\), but should be int16 \(700,\)"):
        open_store(written).read("margin")


def test_another_schema_version_is_refused(written: Path) -> None:
    edit_attributes(written, lambda attributes: attributes.update(schema_version=2))
    with pytest.raises(UserError, match="has schema version 2, but this version reads 1"):
        open_store(written)


def test_an_unknown_column_is_named_with_those_there_are(written: Path) -> None:
    with pytest.raises(UserError, match="has no column 'margins'; it has margin, prediction, converged"):
        open_store(written).read("margins")


@pytest.mark.parametrize("content", [None, "{", "{}", '{"attributes": []}', '{"attributes": {"schema_version": 1}}'])
def test_a_folder_that_is_no_store_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "zarr.json").write_text(content)
    with pytest.raises(UserError, match="is not a readable score store"):
        open_store(tmp_path)


@pytest.mark.parametrize(
    ("columns", "attributes", "problem"),
    [
        ({"a": np.zeros(3, np.float32), "b": np.zeros(4, np.float32)}, {}, r"lengths \[3, 4\]"),
        ({"a": np.zeros(0, np.float32)}, {}, r"lengths \[0\]"),
        ({"a": np.zeros(3)}, {}, "column a is float64"),
        ({"a": np.zeros((3, 1), np.float32)}, {}, r"column a is float32 \(3, 1\)"),
        ({"a": np.zeros(3, np.float32)}, {"x": float("nan")}, "Out of range float values"),
    ],
    ids=["lengths", "empty", "dtype", "dimensions", "nan"],
)
def test_what_cannot_be_stored_is_refused_before_writing(
    tmp_path: Path, columns: dict[str, np.ndarray], attributes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        write_store(tmp_path / "s.zarr", columns, attributes)
    assert not (tmp_path / "s.zarr").exists()


def test_a_half_written_store_is_replaced(written: Path) -> None:
    (written / "zarr.json").unlink()
    (written / "margin" / "c" / "9").write_bytes(b"left over")
    write_store(written, some_columns(), {})
    np.testing.assert_array_equal(open_store(written).read("margin"), some_columns()["margin"])
    assert not (written / "margin" / "c" / "9").exists()
