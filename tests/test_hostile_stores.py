"""A corpus of shared stores made to do harm: each is refused by name, and nothing is written elsewhere."""

import base64
import hashlib
import json
import pickle
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numcodecs import Zstd

from places import a_score
from robustprune.core.errors import UserError
from robustprune.scores.store import layout, shards
from robustprune.scores.store.reader import open_store
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
        try:
            seal = shards.seal(self.file(name), layout.chunk_and_shard(self.attributes["rows"]))
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


Change = Callable[[Published], object]


def in_attributes(**changes: Any) -> Change:
    return lambda store: store.attributes.update(changes)


def in_dtypes(**changes: Any) -> Change:
    return lambda store: store.attributes["dtypes"].update(changes)


def in_file(name: str, **changes: Any) -> Change:
    return lambda store: store.attributes["files"].setdefault(name, {}).update(changes)


def in_entry(**changes: Any) -> Change:
    return lambda store: store.entry.update(changes)


def in_part_of_entry(key: str, **changes: Any) -> Change:
    return lambda store: store.entry[key].update(changes)


def in_both_scores(**changes: Any) -> Change:
    """A change of the score that the entry and the store both describe."""

    def change(store: Published) -> None:
        store.entry["score"].update(changes)
        store.attributes["score"].update(changes)

    return change


def in_column(**changes: Any) -> Change:
    return lambda store: store.edit_column("prediction", lambda metadata: metadata.update(changes))


def with_codec(name: str) -> Change:
    return in_column(codecs=[{"name": name, "configuration": {"x": PICKLE}}])


def chunks_of(*shape: int) -> Change:
    return in_column(chunk_grid={"name": "regular", "configuration": {"chunk_shape": shape}})


def file_named(name: str) -> Change:
    def change(store: Published) -> None:
        files = store.attributes["files"]
        files[name] = files.pop("margin/c/0")

    return change


def column_named(name: str) -> Change:
    def change(store: Published) -> None:
        dtypes = store.attributes["dtypes"]
        dtypes[name] = dtypes.pop("converged")
        files = store.attributes["files"]
        for file in [file for file in files if file.startswith("converged/")]:
            files[file.replace("converged", name, 1)] = files.pop(file)
        store.entry["columns"] = dtypes

    return change


def column_file(content: bytes) -> Change:
    return lambda store: store.rewrite("prediction/zarr.json", content)


def four_chunks(chunk: bytes, places: list[int] | None = None) -> Change:
    """A shard of chunks that should each unpack to 128 bytes."""
    return lambda store: store.rewrite("prediction/c/0", shard([chunk] * 4, places=places))


def without_size(content: bytes) -> bytes:
    """A Zstandard frame that does not state the size of its content."""
    frame = pa.BufferOutputStream()
    with pa.CompressedOutputStream(frame, "zstd") as stream:
        stream.write(content)
    packed: bytes = frame.getvalue().to_pybytes()
    return packed


def damaged(name: str, damage: Callable[[bytes], bytes], *, stated: bool = False) -> Change:
    """A file with other content, whose size, but not its seal, the store may state."""

    def change(store: Published) -> None:
        content = damage(store.file(name).read_bytes())
        store.file(name).write_bytes(content)
        if stated:
            store.attributes["files"][name]["bytes"] = len(content)

    return change


def exchanged_shards(store: Published) -> None:
    first, second = store.file("margin/c/0"), store.file("margin/c/1")
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def link(path: Path) -> None:
    elsewhere = Path("elsewhere").absolute()
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def linked(name: str) -> Change:
    return lambda store: link(store.file(name))


def raw_entry(text: str) -> Change:
    return lambda store: store.entry_file.write_text(text)


FLIPPED_BIT = damaged("margin/c/2", lambda content: content[:99] + bytes([content[99] ^ 4]) + content[100:])
ELEVEN = bytes(11) + shards.crc32c(bytes(11))  # no whole entries of a shard's index, and their checksum
NOT_A_COLUMN = r"prediction/zarr\.json does not describe a column"
NO_SIZE = r"prediction/c/0 cannot be read: .* 0 would unpack to None"

BEFORE_SAVING: dict[str, tuple[Change, str]] = {
    "traversal in a file's name": (file_named("../../../evil"), r"margin/c/0 is not listed, but '.*' is"),
    "absolute name of a file": (file_named("/tmp/evil"), r"margin/c/0 is not listed"),
    "traversal in a column's name": (column_named("../../evil"), r"columns\.\.\./\.\./evil.*match pattern"),
    "hidden column": (column_named(".ssh"), r"columns\.\.ssh.*match pattern"),
    "more files than rows": (in_file("x/c/0", bytes=1, seal="0" * 64), "22 files .* 1,297 rows take 21"),
    "huge number of rows": (in_attributes(rows=10**15), r"files are listed, but .* take"),
    "no number of rows": (in_attributes(rows="1297"), r"rows = '1297'"),
    "negative rows": (in_attributes(rows=-1), r"rows = -1"),
    "other number of rows": (in_attributes(rows=1296), "rows and columns .* in its entry"),
    "epochs": (in_attributes(epochs=2), r"files are listed"),
    "huge file": (in_file("margin/c/0", bytes=10**12), r"margin/c/0 .* 1,000,000,000,000 bytes, .* at most"),
    "size that is no number": (in_file("margin/c/0", bytes="1"), "margin/c/0 has no size and seal"),
    "shard without a seal": (in_file("margin/c/1", seal=None), "margin/c/1 has no size and seal"),
    "dtype with objects": (in_dtypes(margin="object"), r"column margin is 'object'"),
    "dtype that is none": (in_dtypes(margin={"a": 1}), "column margin is"),
    "wrong dtype": (in_dtypes(prediction="float32"), "rows and columns .* in its entry"),
    "column of another dtype": (in_column(data_type="float64"), r"prediction is float64 \(1297,\)"),
    "column of variable strings": (in_column(data_type="string"), NOT_A_COLUMN),
    "column without names of dimensions": (
        lambda store: store.edit_column("prediction", lambda metadata: metadata.pop("dimension_names")),
        r"prediction/zarr\.json: dimension_names",
    ),
    "column that is a list": (column_file(b"[]"), NOT_A_COLUMN),
    "column that is a number": (column_file(b"5"), NOT_A_COLUMN),
    "no chunks": (chunks_of(0), r"prediction/zarr\.json"),
    "huge chunks": (chunks_of(2**40), r"prediction/zarr\.json: chunk_grid"),
    "huge shape": (in_column(shape=[10**15]), r"prediction is int16 \(1000000000000000,\)"),
    "huge fill value": (in_column(fill_value=10**400), r"prediction/zarr\.json"),
    "huge size in an entry": (in_entry(size=10**400), r"size: .* less than"),
    "huge number of a bar": (in_part_of_entry("histogram", first=10**400), r"histogram\.first: .* less than"),
    "huge radius in a spec": (
        lambda store: store.entry["spec"]["settings"].update(step_size="1e999999999", method="boundary_search"),
        r"spec .*step_size",
    ),
    "codec that unpickles": (with_codec("numcodecs.pickle"), NOT_A_COLUMN),
    "unknown codec": (with_codec("evil"), NOT_A_COLUMN),
    "storage transformer": (in_column(storage_transformers=[{"name": "evil"}]), f"{NOT_A_COLUMN}: .*transformers"),
    "attributes of a column with code": (in_column(attributes={"run": CODE}), "attributes is not as in a store"),
    "huge zarr.json of a column": (in_column(x="x" * 2**17), r"prediction/zarr.json .* at most 65,536"),
    "attribute with code": (in_attributes(on_load=CODE), "'on_load'"),
    "attribute with a pickle": (in_attributes(model=PICKLE), "'model'"),
    "score that is code": (in_both_scores(column=CODE), r"score\.column"),
    "score that is no column": (in_both_scores(column="labels"), "no column 'labels' of float32"),
    "score of whole numbers": (in_both_scores(column="prediction"), "no column 'prediction' of float32"),
    "score of another end than its entry": (in_part_of_entry("score", easy="low"), "score .* in its entry"),
    "escape sequence of a terminal": (in_both_scores(sign="\x1b]0;owned\x07"), r"score\.sign: .*printable"),
    "script in a text": (in_both_scores(unit="<script>alert(1)</script>"), r"score\.unit: .*printable"),
    "text of many lines": (in_both_scores(unit="a\nb"), r"score\.unit: .*printable"),
    "endless text": (in_both_scores(unit="x" * 10_000), r"score\.unit: .*500"),
    "entry with code": (in_entry(on_load=CODE), "on_load: Extra inputs"),
    "entry of another store": (in_entry(id="margin-x-0123456789"), "is the entry of margin-x-0123456789"),
    "id that leads elsewhere": (in_entry(id="../../evil-0123456789"), r"id: String should match"),
    "spec of another stage": (in_part_of_entry("spec", norm="L2"), "of margin-l2-digits-train-"),
    "another pool than its entry": (in_entry(pool_digest="b" * 64), "pool_digest .* in its entry"),
    "schema that is an escape sequence": (in_attributes(schema_version="\x1b]0;owned\x07"), r"'\\x1b\]0;owned\\x07'"),
    # A megabyte in sixty bytes; a real bomb would have terabytes in a shard.
    "bomb": (four_chunks(Zstd(1).encode(bytes(2**20))), "prediction/c/0 .* unpack to 1048576 bytes, not 128"),
    "bomb that states no size": (four_chunks(without_size(bytes(2**20))), NO_SIZE),
    "frame that ends at once": (four_chunks(b"\x28\xb5\x2f\xfd"), NO_SIZE),
    "chunks of another compression": (four_chunks(b"PK\x03\x04" + bytes(60)), NO_SIZE),
    "chunks that overlap": (
        four_chunks(Zstd(1).encode(bytes(128)), places=[0] * 4),
        "prediction/c/0 .* a chunk lies at 0, but should at",
    ),
    "truncated shard": (damaged("margin/c/1", lambda content: content[:-20]), r"margin/c/1 has 1,088 .* 1,108"),
    "truncated shard of the stated size": (
        damaged("margin/c/1", lambda content: content[:-20], stated=True),
        "margin/c/1 is damaged",
    ),
    "shard shorter than its index": (
        damaged("margin/c/1", lambda _: ELEVEN, stated=True),
        "margin/c/1 is damaged: its checksums",
    ),
    "longer shard": (damaged("margin/c/1", lambda content: content + bytes(1000)), "margin/c/1 has 2,108 .* 1,108"),
    "flipped bit": (FLIPPED_BIT, "margin/c/2 is damaged: its checksums"),
    "exchanged shards": (exchanged_shards, r"margin/c/[01] is damaged: its checksums"),
    "missing shard": (lambda store: store.file("margin/c/3").unlink(), "margin/c/3 is missing"),
    "linked shard": (linked("margin/c/1"), "margin/c/1 is a symbolic link"),
    "linked folder": (linked("margin/c"), "margin/c is a symbolic link"),
    "linked column": (linked("margin/zarr.json"), "margin/zarr.json is a symbolic link"),
}
AFTER_SAVING: dict[str, tuple[Change, str]] = {
    "linked entry": (lambda store: link(store.entry_file), "is a symbolic link"),
    "entry that is no JSON": (raw_entry("{"), "is not the entry of a shared store"),
    "entry with NaN": (raw_entry('{"rows": NaN}'), "NaN is no number"),
    "entry that is a list": (raw_entry("[]"), "is not the entry of a shared store"),
    "deep entry": (raw_entry("[" * 100_000 + "]" * 100_000), "is not the entry of a shared store"),
    "huge entry": (raw_entry(" " * (2**20 + 1)), "1,048,577 bytes, .* 1,048,576"),
    "another zarr.json": (
        lambda store: next(store.root.rglob("scores.zarr")).joinpath("zarr.json").write_text("{}"),
        "SHA-256",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def small_files() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CHUNK_ROWS", 64)
        patch.setattr(layout, "SHARD_ROWS", 256)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    plan, score = a_score(tmp_path_factory.mktemp("team") / "results")
    return plan.directory(score), score


@pytest.fixture
def published(made: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    monkeypatch.chdir(tmp_path)
    directory, score = made
    publish([directory], "shared")
    return Published(tmp_path / "shared", score)


def assert_refused(published: Published, tmp_path: Path, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        pull(published.id, ["shared"], tmp_path / "here")
    assert published.id in str(error.value)
    assert "Traceback" not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert "\x1b" not in list_places(["shared"])
    assert not (tmp_path / "here" / published.id / "scores.zarr").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"shared", "here", "elsewhere"}
    assert not Path("/tmp/robustprune-was-here").exists()


@pytest.mark.parametrize(("change", "says"), BEFORE_SAVING.values(), ids=BEFORE_SAVING)
def test_a_store_with_right_checksums_is_refused(
    change: Change, says: str, published: Published, tmp_path: Path
) -> None:
    change(published)
    published.save()
    assert_refused(published, tmp_path, says)


@pytest.mark.parametrize(("change", "says"), AFTER_SAVING.values(), ids=AFTER_SAVING)
def test_a_place_with_a_bad_entry_is_refused(change: Change, says: str, published: Published, tmp_path: Path) -> None:
    published.save()
    change(published)
    assert_refused(published, tmp_path, says)


def test_verifying_a_place_names_what_is_wrong(published: Published) -> None:
    FLIPPED_BIT(published)
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


NO_INDEX = {
    "traversal": '{"ids": ["../../etc"]}',
    "number": '{"ids": [1]}',
    "no list": '{"ids": 3}',
    "list": "[]",
    "no JSON": "{",
    "deep": '{"ids": ["a-0123456789"], "x": ' + "[" * 99_999,
}


@pytest.mark.parametrize("content", NO_INDEX.values(), ids=NO_INDEX)
def test_an_index_of_a_web_server_that_is_none_is_refused(content: str) -> None:
    with pytest.raises(UserError, match=r"https://example\.org/index\.json is not an index"):
        read_index(content.encode(), origin="https://example.org/index.json")


def test_a_frame_states_its_size() -> None:
    for length in (1, 100, 255, 256, 300, 65_791, 65_792, 70_000, 2**20):
        frame = Zstd(1).encode(np.random.default_rng(0).integers(0, 256, length, np.uint8))
        assert shards.unpacked_size(frame[:18]) == length
    assert shards.unpacked_size(b"\x28\xb5\x2f\xfd\x00") is None
    assert shards.unpacked_size(struct.pack("<IB", 0xFD2FB528, 0xE0) + struct.pack("<Q", 2**50)) == 2**50
