"""A corpus of shared stores made to do harm: each is refused by name, and nothing is written elsewhere."""

import base64
import hashlib
import json
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numcodecs import Zstd

from places import a_score
from robustprune.core.errors import UserError
from robustprune.scores.store import layout, shards
from robustprune.scores.store.reading import open_store
from robustprune.sharing.commands import list_places, publish, pull, verify_place
from robustprune.sharing.places import read_index

CODE = "__import__('os').system('touch /tmp/robustprune-was-here')"


class Harm:
    """What a pickle would do when it is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("robustprune-was-here"),))


PICKLE = base64.b64encode(pickle.dumps(Harm())).decode()


class Published:
    """A published store that a test changes, with every checksum put right afterwards."""

    def __init__(self, root: Path, stage_id: str) -> None:
        self.root, self.id = root, stage_id
        self.entry_file = root / "stores" / f"{stage_id}.json"
        self.entry: dict[str, Any] = json.loads(self.entry_file.read_text())
        self.store = next((root / "stores" / stage_id).glob("*/scores.zarr"))
        self.group: dict[str, Any] = json.loads((self.store / "zarr.json").read_text())

    @property
    def attributes(self) -> dict[str, Any]:
        attributes: dict[str, Any] = self.group["attributes"]
        return attributes

    def file(self, name: str) -> Path:
        return self.store / name

    def rewrite(self, name: str, content: bytes) -> None:
        """Other content, whose size and seal the store states; a shard's seal is of its chunks' checksums."""
        self.file(name).write_bytes(content)
        chunk_and_shard = layout.chunk_and_shard(self.attributes["rows"])
        try:
            seal = shards.seal(self.file(name), chunk_and_shard)
        except shards.DamagedShard:
            seal = "0" * 64
        self.attributes["files"][name] = {"bytes": len(content), "seal": seal}

    def edit_column(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        metadata = json.loads(self.file(f"{name}/zarr.json").read_text())
        change(metadata)
        self.rewrite(f"{name}/zarr.json", json.dumps(metadata).encode())

    def save(self) -> None:
        """Write the store's and the place's own files, so that they agree."""
        stated = {key: value for key, value in self.attributes.items() if key not in ("schema_version", "checksum")}
        self.attributes["checksum"] = layout.checksum_of(stated)
        content = json.dumps(self.group).encode()
        (self.store / "zarr.json").write_bytes(content)
        self.entry["group_digest"] = hashlib.sha256(content).hexdigest()
        self.store.parent.rename(self.store.parent.with_name(self.entry["group_digest"][:16]))
        self.entry_file.write_text(json.dumps(self.entry))


def shard(chunks: list[bytes], *, places: list[int] | None = None) -> bytes:
    """A shard's file with these chunks in it, every checksum right."""
    content, index = b"", []
    for number, chunk in enumerate(chunks):
        index += [len(content) if places is None else places[number], len(chunk) + 4]
        content += chunk + shards.crc32c(chunk)
    table = np.array(index, "<u8").tobytes()
    return content + table + shards.crc32c(table)


def in_files(name: str) -> Callable[[Published], None]:
    def change(store: Published) -> None:
        files = store.attributes["files"]
        files[name] = files.pop("margin/c/0")

    return change


def in_attributes(**changes: Any) -> Callable[[Published], None]:
    return lambda store: store.attributes.update(changes)


def in_entry(**changes: Any) -> Callable[[Published], None]:
    return lambda store: store.entry.update(changes)


def in_both(key: str, **changes: Any) -> Callable[[Published], None]:
    """Of what the entry and the store both say."""

    def change(store: Published) -> None:
        store.entry[key] = {**store.entry[key], **changes}
        store.attributes[key] = {**store.attributes[key], **changes}

    return change


def a_column_named(name: str) -> Callable[[Published], None]:
    def change(store: Published) -> None:
        dtypes = store.attributes["dtypes"]
        dtypes[name] = dtypes.pop("converged")
        files = store.attributes["files"]
        for file in [file for file in files if file.startswith("converged/")]:
            files[file.replace("converged", name, 1)] = files.pop(file)
        store.entry["columns"] = dtypes

    return change


def of_a_column(**changes: Any) -> Callable[[Published], None]:
    return lambda store: store.edit_column("prediction", lambda metadata: metadata.update(changes))


def with_codec(name: str) -> Callable[[Published], None]:
    def change(metadata: dict[str, Any]) -> None:
        metadata["codecs"] = [{"name": name, "configuration": {"x": PICKLE}}]

    return lambda store: store.edit_column("prediction", change)


def a_bomb(store: Published) -> None:
    """A megabyte in sixty bytes, where a chunk of 128 bytes should be; a real one would have terabytes in a shard."""
    store.rewrite("prediction/c/0", shard([Zstd(1).encode(bytes(2**20))] * 4))


def a_bomb_without_a_size(store: Published) -> None:
    frame = pa.BufferOutputStream()
    with pa.CompressedOutputStream(frame, "zstd") as stream:
        stream.write(bytes(2**20))
    store.rewrite("prediction/c/0", shard([frame.getvalue().to_pybytes()] * 4))


def a_frame_of_its_first_bytes(store: Published) -> None:
    store.rewrite("prediction/c/0", shard([b"\x28\xb5\x2f\xfd"] * 4))


def overlapping_chunks(store: Published) -> None:
    store.rewrite("prediction/c/0", shard([Zstd(1).encode(bytes(128))] * 4, places=[0] * 4))


def no_zstandard(store: Published) -> None:
    store.rewrite("prediction/c/0", shard([b"PK\x03\x04" + bytes(60)] * 4))


def a_truncated_shard(store: Published) -> None:
    file = store.file("margin/c/1")
    file.write_bytes(file.read_bytes()[:-20])


def a_truncated_shard_of_stated_size(store: Published) -> None:
    content = store.file("margin/c/1").read_bytes()[:-20]
    store.file("margin/c/1").write_bytes(content)
    store.attributes["files"]["margin/c/1"]["bytes"] = len(content)


def a_shard_shorter_than_its_index(store: Published) -> None:
    """Of 11 bytes, which are no whole entries of an index, and their checksum."""
    store.file("margin/c/1").write_bytes(bytes(11) + shards.crc32c(bytes(11)))
    store.attributes["files"]["margin/c/1"]["bytes"] = 15


def a_flipped_bit(store: Published) -> None:
    content = bytearray(store.file("margin/c/2").read_bytes())
    content[99] ^= 4
    store.file("margin/c/2").write_bytes(content)


def a_longer_shard(store: Published) -> None:
    file = store.file("margin/c/1")
    file.write_bytes(file.read_bytes() + bytes(1000))


def exchanged_shards(store: Published) -> None:
    first, second = store.file("margin/c/0"), store.file("margin/c/1")
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def a_missing_shard(store: Published) -> None:
    store.file("margin/c/3").unlink()


def link(name: str) -> Callable[[Published], None]:
    """The file is moved away, and a link to it left in its place."""

    def change(store: Published) -> None:
        file = store.file(name)
        elsewhere = store.root.parent / "elsewhere"
        file.rename(elsewhere)
        file.symlink_to(elsewhere)

    return change


def a_linked_entry(store: Published) -> None:
    elsewhere = store.root.parent / "elsewhere.json"
    store.entry_file.rename(elsewhere)
    store.entry_file.symlink_to(elsewhere)


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def raw_entry(text: str) -> Callable[[Published], None]:
    def change(store: Published) -> None:
        store.entry_file.write_text(text)

    return change


def another_group_file(store: Published) -> None:
    next(store.root.rglob("scores.zarr")).joinpath("zarr.json").write_text("{}")


BEFORE_SAVING: dict[str, tuple[Callable[[Published], None], str]] = {
    "traversal in a file's name": (in_files("../../../evil"), r"margin/c/0 is not listed, but '.*' is"),
    "absolute name of a file": (in_files("/tmp/evil"), r"margin/c/0 is not listed"),
    "traversal in a column's name": (a_column_named("../../evil"), r"columns\.\.\./\.\./evil.*should match pattern"),
    "hidden column": (a_column_named(".ssh"), r"columns\.\.ssh.*should match pattern"),
    "more files than rows": (
        lambda store: store.attributes["files"].update({"x/c/0": {"bytes": 1, "seal": "0" * 64}}),
        "22 files are listed, but margin, prediction, converged of 1,297 rows take 21",
    ),
    "huge number of rows": (in_attributes(rows=10**15), r"files are listed, but .* take"),
    "no number of rows": (in_attributes(rows="1297"), r"rows = '1297' should be a whole number"),
    "negative rows": (in_attributes(rows=-1), r"rows = -1 should be"),
    "other number of rows": (in_attributes(rows=1296), "its rows and columns are not those in its entry"),
    "epochs": (in_attributes(epochs=2), r"files are listed"),
    "huge file": (
        lambda store: store.attributes["files"]["margin/c/0"].update(bytes=10**12),
        r"margin/c/0 is said to have 1,000,000,000,000 bytes, but can have at most",
    ),
    "size that is no number": (
        lambda store: store.attributes["files"]["margin/c/0"].update(bytes="1"),
        "margin/c/0 has no size and seal",
    ),
    "dtype with objects": (
        lambda store: store.attributes["dtypes"].update(margin="object"),
        r"column margin is 'object', but should be one of",
    ),
    "dtype that is none": (lambda store: store.attributes["dtypes"].update(margin={"a": 1}), "column margin is"),
    "wrong dtype": (
        lambda store: store.attributes["dtypes"].update(prediction="float32"),
        "its rows and columns are not those in its entry",
    ),
    "column of another dtype": (
        of_a_column(data_type="float64"),
        r"prediction is float64 \(1297,\)",
    ),
    "column of variable strings": (
        of_a_column(data_type="string"),
        r"prediction/zarr\.json does not describe a column",
    ),
    "column without names of dimensions": (
        lambda store: store.edit_column("prediction", lambda metadata: metadata.pop("dimension_names")),
        r"prediction/zarr\.json: dimension_names is not as in a store",
    ),
    "column that is a list": (
        lambda store: store.rewrite("prediction/zarr.json", b"[]"),
        r"prediction/zarr\.json does not describe a column",
    ),
    "column that is a number": (
        lambda store: store.rewrite("prediction/zarr.json", b"5"),
        r"prediction/zarr\.json does not describe a column",
    ),
    "no chunks": (
        of_a_column(chunk_grid={"name": "regular", "configuration": {"chunk_shape": [0]}}),
        r"prediction/zarr\.json",
    ),
    "huge fill value": (of_a_column(fill_value=10**400), r"prediction/zarr\.json"),
    "huge size in an entry": (in_entry(size=10**400), r"size: Input should be less than"),
    "huge number of a bar": (
        lambda store: store.entry["histogram"].update(first=10**400),
        r"histogram\.first: Input should be less than",
    ),
    "huge radius in a spec": (
        lambda store: store.entry["spec"]["settings"].update(step_size="1e999999999", method="boundary_search"),
        r"its spec is none: .*step_size.*of usual size",
    ),
    "huge shape": (of_a_column(shape=[10**15]), r"prediction is int16 \(1000000000000000,\)"),
    "huge chunks": (
        of_a_column(chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2**40]}}),
        r"prediction/zarr\.json: chunk_grid is not as in a store",
    ),
    "codec that unpickles": (with_codec("numcodecs.pickle"), r"prediction/zarr.json does not describe a column"),
    "unknown codec": (with_codec("evil"), r"prediction/zarr.json does not describe a column"),
    "storage transformer": (
        of_a_column(storage_transformers=[{"name": "evil"}]),
        r"prediction/zarr\.json does not describe a column: .*storage transformers",
    ),
    "attributes of a column with code": (of_a_column(attributes={"run": CODE}), "attributes is not as in a store"),
    "huge zarr.json of a column": (
        lambda store: store.edit_column("prediction", lambda metadata: metadata.update(x="x" * 2**17)),
        r"prediction/zarr.json is said to have .* at most 65,536",
    ),
    "attribute with code": (in_attributes(on_load=CODE), "'on_load' is no attribute of a score"),
    "attribute with a pickle": (in_attributes(model=PICKLE), "'model' is no attribute of a score"),
    "score that is code": (in_both("score", column=CODE), r"score\.column"),
    "score that is no column": (in_both("score", column="labels"), "has no column 'labels' of float32, its score"),
    "score of whole numbers": (
        in_both("score", column="prediction"),
        "has no column 'prediction' of float32, its score",
    ),
    "score of another end than its entry": (
        in_entry_score := (lambda store: store.entry["score"].update(easy="low")),
        "its score is not the one in its entry",
    ),
    "escape sequence of a terminal": (in_both("score", sign="\x1b]0;owned\x07"), r"score\.sign: .*printable"),
    "script in a text": (in_both("score", unit="<script>alert(1)</script>"), r"score\.unit: .*printable"),
    "text of many lines": (in_both("score", unit="a\nb"), r"score\.unit: .*printable"),
    "endless text": (in_both("score", unit="x" * 10_000), r"score\.unit: .*500"),
    "entry with code": (in_entry(on_load=CODE), "on_load: Extra inputs"),
    "entry of another store": (
        in_entry(id="margin-x-0123456789"),
        "is the entry of margin-x-0123456789, another store",
    ),
    "id that leads elsewhere": (in_entry(id="../../evil-0123456789"), r"id: String should match"),
    "spec of another stage": (
        lambda store: store.entry.update(spec={**store.entry["spec"], "norm": "L2"}),
        "its spec is not of that id, but of margin-l2-digits-train-",
    ),
    "another pool than its entry": (in_entry(pool_digest="b" * 64), "its pool_digest is not the one in its entry"),
    "bomb": (a_bomb, "prediction/c/0 cannot be read: the chunk at 0 would unpack to 1048576 bytes, not 128"),
    "bomb that states no size": (
        a_bomb_without_a_size,
        "prediction/c/0 cannot be read: the chunk at 0 would unpack to None bytes",
    ),
    "frame that ends at once": (
        a_frame_of_its_first_bytes,
        "prediction/c/0 cannot be read: the chunk at 0 would unpack to None bytes",
    ),
    "schema that is an escape sequence": (
        in_attributes(schema_version="\x1b]0;owned\x07"),
        r"has schema version '\\x1b\]0;owned\\x07', but this version reads",
    ),
    "chunks that overlap": (overlapping_chunks, "prediction/c/0 cannot be read: a chunk lies at 0, but should at"),
    "chunks of another compression": (no_zstandard, r"prediction/c/0 cannot be read: .* unpack to None"),
    "truncated shard": (a_truncated_shard, r"margin/c/1 has 1,088 bytes, but should have 1,108"),
    "truncated shard of the stated size": (a_truncated_shard_of_stated_size, "margin/c/1 is damaged"),
    "shard shorter than its index": (
        a_shard_shorter_than_its_index,
        "margin/c/1 is damaged: its checksums",
    ),
    "shard without a seal": (
        lambda store: store.attributes["files"]["margin/c/1"].update(seal=None),
        "margin/c/1 has no size and seal",
    ),
    "longer shard": (a_longer_shard, "margin/c/1 has 2,108 bytes, but should have 1,108"),
    "flipped bit": (a_flipped_bit, "margin/c/2 is damaged: its checksums"),
    "exchanged shards": (exchanged_shards, r"margin/c/[01] is damaged: its checksums"),
    "missing shard": (a_missing_shard, "margin/c/3 is missing"),
    "linked shard": (link("margin/c/1"), "margin/c/1 is a symbolic link"),
    "linked folder": (link("margin/c"), "margin/c is a symbolic link"),
    "linked column": (link("margin/zarr.json"), "margin/zarr.json is a symbolic link"),
}
AFTER_SAVING: dict[str, tuple[Callable[[Published], None], str]] = {
    "linked entry": (a_linked_entry, "is a symbolic link"),
    "entry that is no JSON": (raw_entry("{"), "is not the entry of a shared store"),
    "entry with NaN": (raw_entry('{"rows": NaN}'), "NaN is no number"),
    "entry that is a list": (raw_entry("[]"), "is not the entry of a shared store"),
    "deep entry": (raw_entry("[" * 100_000 + "]" * 100_000), "is not the entry of a shared store"),
    "huge entry": (raw_entry(" " * (2**20 + 1)), "has 1,048,577 bytes, but should have at most 1,048,576"),
    "another zarr.json": (
        another_group_file,
        "is not the file whose SHA-256 its entry has",
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CHUNK_ROWS", 64)
        patch.setattr(layout, "SHARD_ROWS", 256)
        plan, score = a_score(tmp_path_factory.mktemp("team") / "results")
        return plan.directory(score), score


@pytest.fixture
def published(made: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    monkeypatch.setattr(layout, "CHUNK_ROWS", 64)
    monkeypatch.setattr(layout, "SHARD_ROWS", 256)
    monkeypatch.chdir(tmp_path)
    directory, score = made
    publish([directory], "shared")
    return Published(tmp_path / "shared", score)


def refused(published: Published, tmp_path: Path, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        pull(published.id, ["shared"], tmp_path / "here")
    assert published.id in str(error.value)
    assert "Traceback" not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert "\x1b" not in list_places(["shared"])
    assert not (tmp_path / "here" / published.id / "scores.zarr").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"shared", "here", "elsewhere", "elsewhere.json"}
    assert not Path("/tmp/robustprune-was-here").exists()


@pytest.mark.parametrize("name", BEFORE_SAVING)
def test_a_store_with_right_checksums_is_refused(name: str, published: Published, tmp_path: Path) -> None:
    change, says = BEFORE_SAVING[name]
    change(published)
    published.save()
    refused(published, tmp_path, says)


@pytest.mark.parametrize("name", AFTER_SAVING)
def test_a_place_with_a_bad_entry_is_refused(name: str, published: Published, tmp_path: Path) -> None:
    change, says = AFTER_SAVING[name]
    published.save()
    change(published)
    refused(published, tmp_path, says)


def test_verifying_a_place_names_what_is_wrong(published: Published, tmp_path: Path) -> None:
    a_flipped_bit(published)
    with pytest.raises(UserError, match=f"{published.id}.*margin/c/2 is damaged"):
        verify_place("shared")


def test_the_store_that_all_these_were_made_of_is_taken(published: Published, tmp_path: Path) -> None:
    published.save()
    pull(published.id, ["shared"], tmp_path / "here")
    assert open_store(tmp_path / "here" / published.id / "scores.zarr").problems() == []


@pytest.mark.parametrize("name", ["bomb", "bomb that states no size", "chunks that overlap", "huge number of rows"])
def test_a_local_store_of_a_stranger_is_refused_too(name: str, published: Published) -> None:
    change, _ = BEFORE_SAVING[name]
    change(published)
    published.save()
    store = next(published.root.rglob("scores.zarr"))
    try:
        assert open_store(store).problems() != []
    except UserError as error:
        assert re.search("files are listed|is said to have", str(error))  # noqa: PT017


@pytest.mark.parametrize(
    "content",
    [
        '{"ids": ["../../etc"]}',
        '{"ids": [1]}',
        '{"ids": 3}',
        "[]",
        "{",
        '{"ids": ["a-0123456789"], "x": ' + "[" * 99_999,
    ],
    ids=["traversal", "number", "no list", "list", "no JSON", "deep"],
)
def test_an_index_of_a_web_server_that_is_none_is_refused(content: str) -> None:
    with pytest.raises(UserError, match=r"https://example\.org/index\.json is not an index of shared stores"):
        read_index(content.encode(), origin="https://example.org/index.json")


def test_a_frame_states_its_size() -> None:
    for length in (0, 1, 100, 255, 256, 300, 65_791, 65_792, 70_000, 2**20):
        frame = Zstd(1).encode(np.random.default_rng(0).integers(0, 256, length, np.uint8)) if length else None
        if frame is not None:
            assert shards.unpacked_size(frame[:18]) == length
    assert shards.unpacked_size(b"\x28\xb5\x2f\xfd\x00") is None
    assert shards.unpacked_size(struct.pack("<IB", 0xFD2FB528, 0xE0) + struct.pack("<Q", 2**50)) == 2**50
