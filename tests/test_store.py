"""Stores: what is written is read, and nothing else."""

import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from robustprune.core.errors import UserError
from robustprune.core.files import digest
from robustprune.scores.store import layout
from robustprune.scores.store.layout import FILL_VALUES
from robustprune.scores.store.reader import open_store
from robustprune.scores.store.writer import StoreWriter, write_store

ROWS, EPOCHS = 700, 3
Columns = dict[str, np.ndarray[Any, Any]]


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 256 rows of chunks of 64, so that a small store has several."""
    monkeypatch.setattr(layout, "CHUNK_ROWS", 64)
    monkeypatch.setattr(layout, "SHARD_ROWS", 256)


def some_columns(rows: int = ROWS, seed: int = 0) -> Columns:
    source = np.random.default_rng(seed)
    margin = source.normal(size=rows).astype(np.float32)
    margin[::7], margin[1::50], margin[2::50] = np.nan, np.inf, -np.inf
    return {
        "margin": margin,
        "prediction": source.integers(0, 10, rows).astype(np.int16),
        "converged": source.random(rows) < 0.5,
    }


def write(path: Path, columns: Columns, **attributes: Any) -> None:
    write_store(path, [columns], len(next(iter(columns.values()))), attributes)


def an_epoch(epoch: int) -> Columns:
    source = np.random.default_rng(epoch)
    return {"confidence": source.random(ROWS).astype(np.float16), "correct": source.random(ROWS) < 0.5}


def trajectories(path: Path) -> StoreWriter:
    return StoreWriter(path, {"confidence": "float16", "correct": "bool"}, ROWS, EPOCHS)


@pytest.fixture
def scores(tmp_path: Path, small_shards: None) -> Path:
    path = tmp_path / "scores.zarr"
    write(path, some_columns(), pool_digest="a" * 64, sign="large is easy")
    return path


@pytest.fixture
def dynamics(tmp_path: Path, small_shards: None) -> Path:
    path = tmp_path / "dynamics.zarr"
    writer = trajectories(path)
    for epoch in range(EPOCHS):
        writer.write(an_epoch(epoch), epoch=epoch)
    writer.finish({"pool_digest": "a" * 64})
    return path


@pytest.fixture(params=["scores", "dynamics"])
def written(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def test_a_round_trip_keeps_every_bit(scores: Path) -> None:
    opened = open_store(scores, pool_digest="a" * 64)
    assert opened.attributes == {"pool_digest": "a" * 64, "sign": "large is easy"}
    assert (opened.rows, opened.epochs) == (ROWS, None)
    for name, values in some_columns().items():
        read = opened.read(name)
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read, values)


def test_epochs_are_read_together(dynamics: Path) -> None:
    opened = open_store(dynamics)
    assert (opened.rows, opened.epochs) == (ROWS, EPOCHS)
    for name in ("confidence", "correct"):
        expected = np.stack([an_epoch(epoch)[name] for epoch in range(EPOCHS)])
        np.testing.assert_array_equal(opened.read(name), expected)
        np.testing.assert_array_equal(opened.read(name, 250, 400), expected[:, 250:400])
        blocks = [block[name] for block in opened.blocks(name)]
        assert [block.shape for block in blocks[:2]] == [(EPOCHS, 64), (EPOCHS, 64)]
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), expected)


@settings(max_examples=40)
@given(rows=st.integers(1, 1000), data=st.data())
def test_rows_come_back_however_they_are_cut_when_written_and_read(
    rows: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("store") / "scores.zarr"
    columns = some_columns(rows)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, rows), max_size=5))), rows]
    start, stop = sorted(data.draw(st.tuples(st.integers(0, rows), st.integers(0, rows))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CHUNK_ROWS", 64)
        patch.setattr(layout, "SHARD_ROWS", 256)
        blocks = [{name: values[first:last] for name, values in columns.items()} for first, last in pairwise(cuts)]
        write_store(path, blocks, rows, {})
        np.testing.assert_array_equal(open_store(path).read("margin", start, stop), columns["margin"][start:stop])
        read = np.concatenate([block["prediction"] for block in open_store(path).blocks("prediction")])
    np.testing.assert_array_equal(read, columns["prediction"])


@pytest.mark.parametrize("dtype", FILL_VALUES)
@pytest.mark.parametrize("rows", [1, 64, 65, 250, 256, 257, 700])
def test_files_have_the_bytes_that_zarr_would_write(dtype: str, rows: int, tmp_path: Path, small_shards: None) -> None:
    values = np.random.default_rng(0).integers(-3, 3, rows).astype(dtype)
    write(tmp_path / "ours.zarr", {"column": values})
    ours = zarr.open_array(tmp_path / "ours.zarr" / "column", mode="r", zarr_format=3)
    theirs = zarr.create_array(
        tmp_path / "theirs.zarr", shape=ours.shape, dtype=ours.dtype, chunks=ours.chunks, shards=ours.shards,
        compressors=layout.codecs_of(dtype), fill_value=FILL_VALUES[dtype], dimension_names=("sample",),
        config={"write_empty_chunks": True},
    )  # fmt: skip
    theirs[:] = values
    assert digest(tmp_path / "ours.zarr" / "column") == digest(tmp_path / "theirs.zarr")


def test_the_layout_is_the_documented_one(dynamics: Path) -> None:
    group = zarr.open_group(dynamics, mode="r", zarr_format=3)
    array = group["confidence"]
    assert isinstance(array, zarr.Array)
    assert array.metadata.to_dict()["dimension_names"] == ("epoch", "sample")
    assert array.shards == (1, 256)
    assert array.chunks == (1, 64)
    assert np.isnan(array.fill_value)
    assert group.attrs["schema_version"] == 3
    assert sorted(file.name for file in (dynamics / "confidence" / "c" / "1").iterdir()) == ["0", "1", "2"]
    np.testing.assert_array_equal(array[1], an_epoch(1)["confidence"])


def test_a_small_store_has_one_chunk_of_its_own_length(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr", some_columns(10))
    array = zarr.open_array(tmp_path / "s.zarr" / "margin", mode="r")
    assert (array.chunks, array.shards) == ((10,), (10,))


def test_the_same_columns_make_the_same_bytes_in_place_of_what_was_there(scores: Path) -> None:
    first = digest(scores)
    (scores / "zarr.json").unlink()
    (scores / "margin" / "c" / "9").write_bytes(b"left over")
    write(scores, some_columns(), pool_digest="a" * 64, sign="large is easy")
    assert digest(scores) == first


def test_an_epoch_half_written_by_a_killed_attempt_is_rewritten(dynamics: Path, tmp_path: Path) -> None:
    path = tmp_path / "killed.zarr"
    first = trajectories(path)
    first.write(an_epoch(0), epoch=0)
    first.write(an_epoch(1), epoch=1)
    (path / "correct" / "c" / "1" / "1").unlink()
    (path / "correct" / "c" / "1" / ".1.4711").write_bytes(b"torn")
    kept = (path / "confidence" / "c" / "0" / "0").stat().st_mtime_ns
    second = trajectories(path)
    with pytest.raises(ValueError, match=r"lacks \['confidence/c/2/0', .*\], and has \[\]"):
        second.finish({})
    for epoch in (1, 2):
        second.write(an_epoch(epoch), epoch=epoch)
    second.finish({"pool_digest": "a" * 64})
    assert digest(path) == digest(dynamics)
    assert (path / "confidence" / "c" / "0" / "0").stat().st_mtime_ns == kept


def test_a_writer_of_another_store_begins_anew(dynamics: Path) -> None:
    writer = StoreWriter(dynamics, {"confidence": "float16"}, ROWS, EPOCHS + 1)
    for epoch in range(1, EPOCHS + 1):
        writer.write({"confidence": an_epoch(epoch)["confidence"]}, epoch=epoch)
    with pytest.raises(ValueError, match=r"lacks .*confidence/c/0/0"):
        writer.finish({})


def flip_a_bit(file: Path, place: int = 40) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def first_shard(path: Path) -> tuple[str, Path]:
    """A column's name and its second file."""
    return ("margin", path / "margin/c/1") if "scores" in path.name else ("correct", path / "correct/c/1/1")


@pytest.mark.parametrize(
    ("damage", "says"),
    [(flip_a_bit, "its checksums are not"), (truncate, "bytes, and was written with"), (Path.unlink, "missing")],
    ids=["flipped bit", "truncated", "missing"],
)
def test_damage_is_named_on_reading_and_on_verifying(written: Path, damage: Callable[[Path], None], says: str) -> None:
    column, file = first_shard(written)
    name = file.relative_to(written).as_posix()
    opened = open_store(written)
    damage(file)
    with pytest.raises(UserError, match=rf"{name} is .*{says}"):
        opened.read(column)
    (problem,) = opened.problems()
    assert problem.startswith(f"{name} is ")
    assert says in problem
    opened.read(column, 0, 200)  # in another file
    opened.read(next(name for name in opened.dtypes if name != column))


def test_a_missing_or_cut_file_is_named_on_opening(written: Path) -> None:
    _, file = first_shard(written)
    truncate(file)
    with pytest.raises(UserError, match=r"c/.* is damaged: it has \d+ bytes"):
        open_store(written)
    file.unlink()
    with pytest.raises(UserError, match=r"c/.* is missing"):
        open_store(written)


def test_any_flipped_bit_is_found(written: Path) -> None:
    """At random places in every file but zarr.json of the group, whose attributes alone have a checksum."""
    source = random.Random(0)
    for file in [path for path in written.rglob("*") if path.is_file() and path != written / "zarr.json"]:
        original = file.read_bytes()
        for place in source.sample(range(len(original)), 8):
            flip_a_bit(file, place)
            assert len(open_store(written).problems()) == 1, f"{file} {place}"
        file.write_bytes(original)
    assert open_store(written).problems() == []


def test_swapped_and_foreign_files_are_found_by_verifying(scores: Path) -> None:
    """Each is whole, so the checksums of its chunks are right."""
    first, second = scores / "margin/c/0", scores / "margin/c/1"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    (scores / "margin/c/7").write_bytes(b"")
    found = open_store(scores).problems()
    assert [problem.split(" ")[0] for problem in found] == ["margin/c/0", "margin/c/1", "margin/c/7"]
    assert "does not belong" in found[2]


@pytest.mark.parametrize("damage", [flip_a_bit, truncate], ids=["flipped bit", "truncated"])
def test_zarr_alone_notices_damage_too(written: Path, damage: Callable[[Path], None]) -> None:
    """The chunks' own checksums protect readers in other languages."""
    column, file = first_shard(written)
    damage(file)
    with pytest.raises(ValueError, match=r"checksum|length|size|bytes"):
        zarr.open_array(written / column, mode="r")[:]


def test_scores_of_another_pool_are_refused(scores: Path) -> None:
    with pytest.raises(UserError, match=f"is about the pool with digest {'a' * 64}, not {'b' * 64}"):
        open_store(scores, pool_digest="b" * 64)


def edit_attributes(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the attributes and their checksum."""
    content = json.loads((path / "zarr.json").read_text())
    change(content["attributes"])
    stated = {key: value for key, value in content["attributes"].items() if key not in ("schema_version", "checksum")}
    content["attributes"]["checksum"] = layout.checksum_of(stated)
    (path / "zarr.json").write_text(json.dumps(content))


def test_a_column_of_another_length_or_dtype_is_refused(scores: Path) -> None:
    edit_attributes(scores, lambda attributes: attributes.update(rows=760))
    with pytest.raises(UserError, match=r"margin is float32 \(700,\), but should be float32 \(760,\)"):
        open_store(scores).read("margin")
    edit_attributes(scores, lambda attributes: attributes.update(rows=700))
    edit_attributes(scores, lambda attributes: attributes["dtypes"].update(prediction="float32"))
    with pytest.raises(UserError, match=r"prediction is int16 \(700,\), but should be float32 \(700,\)"):
        open_store(scores).read("prediction")


def test_changed_attributes_and_another_schema_version_are_refused(scores: Path) -> None:
    text = (scores / "zarr.json").read_text()
    (scores / "zarr.json").write_text(text.replace("large is easy", "small is easy"))
    with pytest.raises(UserError, match=r"zarr.json is damaged: its attributes"):
        open_store(scores)
    edit_attributes(scores, lambda attributes: attributes.update(schema_version=2))
    with pytest.raises(UserError, match=r"schema version 2, .* 3"):
        open_store(scores)


def test_a_chunk_that_a_shard_lacks_is_not_read_as_fill_values(scores: Path) -> None:
    """As Zarr does, and would write one of NaN alone."""
    array = zarr.open_array(scores / "margin", mode="r+", config={"write_empty_chunks": False})
    array[64:128] = np.nan
    size = (scores / "margin/c/0").stat().st_size
    edit_attributes(scores, lambda attributes: attributes["files"]["margin/c/0"].update(bytes=size))
    assert np.isnan(array[64:128]).all()
    assert len(open_store(scores).read("margin", 128)) == ROWS - 128
    with pytest.raises(UserError, match=r"margin/c/0 .* row 100"):
        open_store(scores).read("margin", 100, 200)


def test_an_unknown_column_is_named_with_those_there_are(scores: Path) -> None:
    with pytest.raises(UserError, match="has no column 'margins'; it has margin, prediction, converged"):
        open_store(scores).read("margins")


@pytest.mark.parametrize("content", [None, "{", "{}", '{"attributes": []}', '{"attributes": {"schema_version": 3}}'])
def test_a_folder_that_is_no_finished_store_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "zarr.json").write_text(content)
    with pytest.raises(UserError, match="is not a finished store"):
        open_store(tmp_path)


@pytest.mark.parametrize(
    ("columns", "rows", "attributes", "problem"),
    [
        ({"a": np.zeros(3, np.float32), "b": np.zeros(4, np.float32)}, 3, {}, r"a float32 \(3,\), b float32 \(4,\)"),
        ({"a": np.zeros(0, np.float32)}, 0, {}, "would be empty"),
        ({"a": np.zeros(3)}, 3, {}, "column a is float64"),
        ({"a": np.zeros((3, 1), np.float32)}, 3, {}, r"a float32 \(3, 1\)"),
        ({"a": np.zeros(3, np.float32)}, 3, {"x": float("nan")}, "Out of range float values"),
        ({"a": np.zeros(3, np.float32)}, 4, {}, r"rows 0 to 3 are not whole files of \d+ rows, of 4 in all"),
    ],
    ids=["lengths", "empty", "dtype", "dimensions", "nan", "rows"],
)
def test_what_cannot_be_stored_is_refused(
    tmp_path: Path, columns: Columns, rows: int, attributes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        write_store(tmp_path / "s.zarr", [columns], rows, attributes)
    assert not (tmp_path / "s.zarr" / "zarr.json").exists()


@pytest.mark.parametrize("rows", [256, 100], ids=["in another file", "in the same file"])
def test_a_block_of_other_columns_is_refused(tmp_path: Path, small_shards: None, rows: int) -> None:
    blocks: list[Columns] = [{"a": np.zeros(rows, np.float32)}, {"a": np.zeros(rows, np.int16)}]
    with pytest.raises(ValueError, match=rf"columns are a int16 \({rows},\), but should be"):
        write_store(tmp_path / "s.zarr", blocks, 2 * rows, {})


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [({}, "epoch None is not one of 3"), ({"epoch": 3}, "epoch 3"), ({"epoch": 0, "start": 64}, "rows 64 to 764")],
)
def test_an_epoch_or_rows_out_of_place_are_refused(
    tmp_path: Path, small_shards: None, arguments: dict[str, int], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        trajectories(tmp_path / "d.zarr").write(an_epoch(0), **arguments)
