"""Stores: columns of numbers, a row a sample of a pool, in a Zarr v3 group.

A column is an array of dimension ``sample``, or of ``epoch`` and ``sample``; row i is the sample with id i. A file (a
shard, in Zarr's words) holds ``SHARD_ROWS`` samples of one column and epoch and is written whole, so a kill leaves
none torn. A shard is cut into chunks of ``CHUNK_ROWS``, the unit of reading, each with a CRC-32C, which Zarr checks.
Zarr reads fill values where a file is missing, so the group's attributes list every file with its size and its seal:
the SHA-256 of its chunks' checksums, which stand for their content. (A CRC-32C of the whole file would say nothing: it
is the same for all files whose parts end in their own CRC-32C.)

A store may come from a stranger. What its attributes say is checked before anything is read by them: names, dtypes and
sizes must be those of a store of so many rows, and a file is read only below the folder, never through a link. A chunk
is unpacked only where its frame states the size that the chunk should have.
"""

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from shutil import rmtree
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs import Zstd
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from robustprune.blocks import Columns
from robustprune.errors import UserError
from robustprune.files import digest, replacing, write_text

SCHEMA_VERSION = 3
GROUP_FILE = "zarr.json"

CHUNK_ROWS = 2**16  # the unit of reading
SHARD_ROWS = 2**20  # the unit of writing, one file
FILL_VALUES: dict[str, float | int | bool] = {
    "float16": float("nan"),
    "float32": float("nan"),
    "int16": -1,
    "bool": False,
}
"""The dtypes that a column may have; what pads its last chunk."""

FILES_AT_ONCE = 4  # written at the same time
ZSTD_LEVEL = 1  # counts and flags shrink to a tenth; floats hardly do, and are stored as they are
ABSENT = 2**64 - 1  # place of a chunk that its shard lacks, in the shard's index

COLUMN_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,63}")
LARGEST_GROUP_FILE = 2**26  # bytes; the largest recording of the papers' scale needs a fifth
LARGEST_ARRAY_FILE = 2**16  # bytes; they have a thousand or two

File = dict[str, int | str]  # "bytes": size, "seal": 64 hex digits


@dataclass(frozen=True)
class Store:
    """An open store.

    Attributes:
        path: its folder.
        attributes: what the writer had to say of it.
        rows: number of samples.
        epochs: number of epochs; None where columns have no such dimension.
        dtypes: name of each column's dtype.
        files: size and seal of each file but the group's own, by path relative to the folder.
    """

    path: Path
    attributes: dict[str, Any]
    rows: int
    epochs: int | None
    dtypes: dict[str, str]
    files: dict[str, File]

    def read(self, column: str, start: int = 0, stop: int | None = None) -> np.ndarray[Any, Any]:
        """Rows ``start`` ... ``stop`` - 1 of a column, (rows,) or (epochs, rows); their chunks' checksums are checked.

        Raises:
            UserError: when there is no such column, or a file of these rows is missing or damaged.
        """
        stop = self.rows if stop is None else stop
        array = self._array(column)
        values = np.empty((*array.shape[:-1], stop - start), array.dtype)
        for first, last in _ranges(start, stop, SHARD_ROWS):  # faster, and needs less memory, than all at once
            values[..., first - start : last - start] = self._read_shard(column, array, first, last)
        return values

    def blocks(self, *columns: str) -> Iterator[Columns]:
        """The rows of some columns, all by default, in blocks of bounded size, in order."""
        rows = SHARD_ROWS if self.epochs is None else CHUNK_ROWS
        for start, stop in _ranges(0, self.rows, rows):
            yield {column: self.read(column, start, stop) for column in columns or self.dtypes}

    def problems(self) -> list[str]:
        """What is wrong with the store, a sentence each, after reading back every byte of it; empty when all is well.

        Every chunk is compared with its checksum, and these with the file's seal; then Zarr reads every value.
        """
        found = [problem for name in self.files if (problem := self.problem(name)) is not None]
        found += [f"{name} does not belong to the store" for name in _file_names(self.path) if name not in self.files]
        found += [f"{name} is a symbolic link, and a store has none" for name in _links(self.path)]
        if found:
            return found
        try:
            for _ in self.blocks():
                pass
        except UserError as error:
            return [str(error)]
        return []

    def check_columns(self) -> None:
        """Raises UserError unless every column's own zarr.json is what it should be."""
        for column in self.dtypes:
            self._array(column)

    def require(self, name: str) -> None:
        """Raises UserError unless a file is there in its stated size."""
        problem = f"{name} is missing" if not (self.path / name).is_file() else self._wrong_size(name)
        if problem is not None:
            raise UserError(f"{self.path}: {problem}; make the stage again")

    def _array(self, column: str) -> zarr.Array[Any]:
        if column not in self.dtypes:
            raise UserError(f"{self.path} has no column {column!r}; it has {', '.join(self.dtypes)}")
        self.require(f"{column}/{GROUP_FILE}")
        try:
            array = zarr.open_array(self.path / column, mode="r", zarr_format=3)
        except (ValueError, TypeError, KeyError, LookupError, RuntimeError) as error:
            raise UserError(f"{self.path / column / GROUP_FILE} does not describe a column: {error}") from None
        stated = f"{self.dtypes[column]} {_shape(self.rows, self.epochs)}"
        if f"{array.dtype} {array.shape}" != stated:
            raise UserError(f"{self.path / column} is {array.dtype} {array.shape}, but should be {stated}")
        expected = _column_array(zarr.create_group(MemoryStore()), column, self.dtypes[column], self.rows, self.epochs)
        for key, value in expected.metadata.to_dict().items():
            if array.metadata.to_dict()[key] != value:
                raise UserError(f"{self.path / column / GROUP_FILE}: {key} is not as in a store of this schema")
        return array

    def _read_shard(self, column: str, array: zarr.Array[Any], start: int, stop: int) -> np.ndarray[Any, Any]:
        names = list(_shard_names(column, start, stop, self.epochs))
        for name in names:
            self.require(name)
        try:
            with zarr.config.set({"async.concurrency": 1}):  # for these sizes faster than Zarr's 10
                return np.asarray(array[..., start:stop])
        except (ValueError, RuntimeError) as error:
            for name in names:
                if (problem := self.problem(name)) is not None:
                    raise UserError(f"{self.path}: {problem}; make the stage again") from None
            raise UserError(f"{self.path / column}: {error}; make the stage again") from None

    def _wrong_size(self, name: str) -> str | None:
        size, stated = (self.path / name).stat().st_size, self.files[name]["bytes"]
        return None if size == stated else f"{name} is damaged: it has {size} bytes, and was written with {stated}"

    def problem(self, name: str) -> str | None:
        """What is wrong with one file, after reading every byte of it; None when all is well."""
        if not (self.path / name).is_file():
            return f"{name} is missing"
        if (wrong_size := self._wrong_size(name)) is not None:
            return wrong_size
        if _seal(self.path / name, _chunk_and_shard(self.rows), every_byte=True) != self.files[name]["seal"]:
            return f"{name} is damaged: its checksums are not those it was written with"
        if not name.endswith(GROUP_FILE):
            problem = _unpacking_problem(self.path / name, self.dtypes[name.split("/")[0]], _chunk_and_shard(self.rows))
            return None if problem is None else f"{name} cannot be read: {problem}"
        return None


def open_store(path: Path, *, pool_digest: str | None = None) -> Store:
    """Open a store and check that it has all its files, in the sizes stated; content is checked when it is read.

    Args:
        path: its folder.
        pool_digest: when given, the digest of the pool of whose samples this should tell.

    Raises:
        UserError: when the folder is not a store of this schema or another pool's, or a file is missing or cut short.
    """
    store = read_contents(path)
    own = store.attributes.get("pool_digest")
    if pool_digest is not None and own != pool_digest:
        raise UserError(f"{path} is about the pool with digest {own}, not {pool_digest}")
    for link in _links(path):
        raise UserError(f"{path}: {link} is a symbolic link, and a store has none")
    for name in store.files:
        store.require(name)
    return store


def read_contents(path: Path) -> Store:
    """What a store's own zarr.json says, after a check that it can be true; its files may not be there yet.

    Raises:
        UserError: when there is none, it is damaged, or it describes what no store of this schema is.
    """
    try:
        attributes = _read_attributes(path / GROUP_FILE)
        version = attributes.pop("schema_version")
        if version != SCHEMA_VERSION:
            raise UserError(
                f"{path} has schema version {version}, but this version reads {SCHEMA_VERSION}; make it again"
            )
        checksum = attributes.pop("checksum")
        intact = checksum == _checksum(attributes)
        contents = {key: attributes.pop(key) for key in ("rows", "epochs", "dtypes", "files")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not a finished store ({type(error).__name__}: {error})") from None
    if not intact:
        raise UserError(f"{path / GROUP_FILE} is damaged: its attributes are not those it was written with")
    problem = _impossible_dimensions(contents) or _impossible_files(contents)
    if problem is not None:
        raise UserError(f"{path / GROUP_FILE}: {problem}")
    return Store(path, attributes, **contents)


def _read_attributes(path: Path) -> dict[str, Any]:
    if path.is_symlink() or path.stat().st_size > LARGEST_GROUP_FILE:
        raise ValueError(f"{path.name} is a link or has more than {LARGEST_GROUP_FILE} bytes")
    attributes: dict[str, Any] = json.loads(path.read_text())["attributes"]
    return attributes


def _impossible_dimensions(contents: Mapping[str, Any]) -> str | None:
    """Why there is no store of such columns, rows and epochs; None where there could be."""
    rows, epochs, dtypes = contents["rows"], contents["epochs"], contents["dtypes"]
    if type(rows) is not int or rows < 1:
        return f"rows = {_short(rows)} should be a whole number above 0"
    if epochs is not None and (type(epochs) is not int or epochs < 1):
        return f"epochs = {_short(epochs)} should be a whole number above 0, or null"
    if not isinstance(dtypes, dict) or not dtypes:
        return "dtypes should name the columns"
    for name, dtype in dtypes.items():
        if COLUMN_PATTERN.fullmatch(name) is None:
            return f"{_short(name)} cannot be a column's name: it should be of a-z, 0-9 and _"
        if dtype not in list(FILL_VALUES):
            return f"column {name} is {_short(dtype)}, but should be one of {', '.join(FILL_VALUES)}"
    return None


def _impossible_files(contents: Mapping[str, Any]) -> str | None:
    """Why these cannot be the files of a store of these rows; None where they can."""
    rows, epochs, dtypes, files = (contents[key] for key in ("rows", "epochs", "dtypes", "files"))
    count = len(dtypes) * (1 + -(-rows // SHARD_ROWS) * (epochs or 1))
    if not isinstance(files, dict) or len(files) != count:
        found = len(files) if isinstance(files, dict) else "no"
        return f"{found} files are listed, but {', '.join(dtypes)} of {rows:,} rows take {count:,}"
    for column, dtype in dtypes.items():
        largest = _largest_shard(rows, dtype)
        names = dict.fromkeys(_shard_names(column, 0, rows, epochs), largest)
        for name, limit in {f"{column}/{GROUP_FILE}": LARGEST_ARRAY_FILE, **names}.items():
            if name not in files:
                return f"{name} is not listed, but {_short(next(iter(set(files) - set(names))))} is"
            stated = files[name]
            if not isinstance(stated, dict) or set(stated) != {"bytes", "seal"} or type(stated["bytes"]) is not int:
                return f"{name} has no size and seal"
            if not 0 < stated["bytes"] <= limit:
                return f"{name} is said to have {stated['bytes']:,} bytes, but can have at most {limit:,}"
    return None


def _short(value: object) -> str:
    """A stranger's value for a message, as Python writes it and not too long."""
    return repr(value)[:80]


def _largest_shard(rows: int, dtype: str) -> int:
    """Bytes: every chunk as it is, or a little more (Zstandard's bound), its checksum, and the index with its own."""
    chunk, shard = _chunk_and_shard(rows)
    content = chunk * np.dtype(dtype).itemsize
    return (shard // chunk) * (content + (content >> 8) + 64 + 4 + 16) + 4


def _links(path: Path) -> Iterator[str]:
    """Symbolic links below a folder, by relative path."""
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            file = Path(folder, name)
            if file.is_symlink():
                yield file.relative_to(path).as_posix()


class StoreWriter:
    """Writes a store of known size, in any order of shards; the store can be opened once it is finished.

    Each file is on the disk, whole, when ``write`` returns. After a kill, a writer of the same columns finds the
    finished files in place; writing rows again replaces them by the same bytes.

    Args:
        path: folder to make.
        dtypes: name of each column's dtype, one of ``FILL_VALUES``.
        rows: number of samples.
        epochs: number of epochs; None for columns without that dimension.

    Raises:
        ValueError: for another dtype, or a store that would be empty.
    """

    def __init__(self, path: Path, dtypes: Mapping[str, str], rows: int, epochs: int | None = None) -> None:
        if rows < 1 or epochs == 0 or not dtypes:
            raise ValueError(f"a store of {len(dtypes)} columns, {rows} rows and {epochs} epochs would be empty")
        for name, dtype in dtypes.items():
            if dtype not in FILL_VALUES:
                raise ValueError(f"column {name} is {dtype}, but should be one of {', '.join(FILL_VALUES)}")
        self.path, self.dtypes, self.rows, self.epochs = path, dict(dtypes), rows, epochs
        self._chunk, self._shard = _chunk_and_shard(rows)
        metadata = self._metadata()
        if {name: _content(path / name) for name in metadata} != metadata:
            rmtree(path, ignore_errors=True)
            for name, content in metadata.items():
                write_text(path / name, content.decode())

    def write(self, columns: Columns, *, start: int = 0, epoch: int | None = None) -> None:
        """Write rows ``start``, ``start`` + 1, ... of every column.

        Args:
            columns: (n,) arrays. ``start`` and ``start`` + n are multiples of ``SHARD_ROWS``, or the end.
            start: first row.
            epoch: which epoch, where the store has them.

        Raises:
            ValueError: when columns, dtypes, lengths or borders are not the announced ones.
        """
        stop = start + _common_length(columns)
        if {name: str(values.dtype) for name, values in columns.items()} != self.dtypes:
            raise ValueError(f"columns are {_kinds(columns)}, but should be 1-D {self.dtypes}")
        if start % SHARD_ROWS or not (stop % SHARD_ROWS == 0 or stop == self.rows) or stop > self.rows:
            raise ValueError(f"rows {start} to {stop} are not whole files of {SHARD_ROWS} rows, of {self.rows} in all")
        if (epoch is None) != (self.epochs is None) or (epoch is not None and not 0 <= epoch < (self.epochs or 0)):
            raise ValueError(f"epoch {epoch} is not one of {self.epochs}")
        epochs = None if epoch is None else range(epoch, epoch + 1)
        with ThreadPoolExecutor(FILES_AT_ONCE) as threads:  # a file waits for the disk while others are encoded
            waiting = [
                threads.submit(self._write_shard, self.path / file, values[first - start : last - start])
                for name, values in columns.items()
                for first, last in _ranges(start, stop, SHARD_ROWS)
                for file in _shard_names(name, first, last, epochs)
            ]
        for written in waiting:
            written.result()

    def finish(self, attributes: Mapping[str, Any]) -> None:
        """State what the store holds; from now on it can be opened.

        Args:
            attributes: what a reader should know: JSON without NaN.

        Raises:
            ValueError: when rows were not written, or attributes are not JSON.
        """
        for leftover in self.path.rglob(".*"):  # of an attempt killed while writing
            leftover.unlink()
        expected = {f"{name}/{GROUP_FILE}" for name in self.dtypes}
        expected |= {name for column in self.dtypes for name in _shard_names(column, 0, self.rows, self.epochs)}
        files = {name: self._file(name) for name in _file_names(self.path)}
        if set(files) != expected:
            missing, foreign = sorted(expected - set(files)), sorted(set(files) - expected)
            raise ValueError(f"{self.path} lacks {missing[:3]}, and has {foreign[:3]} that do not belong to it")
        contents = {"rows": self.rows, "epochs": self.epochs, "dtypes": self.dtypes, "files": files}
        stated = {**attributes, **contents}
        final = {"schema_version": SCHEMA_VERSION, "checksum": _checksum(stated), **stated}
        group = {"zarr_format": 3, "node_type": "group", "attributes": final}
        write_text(self.path / GROUP_FILE, json.dumps(group, indent=1, allow_nan=False) + "\n")

    def _metadata(self) -> dict[str, bytes]:
        """Each array's zarr.json, by path, as Zarr writes it."""
        files: dict[str, Buffer] = {}
        group = zarr.create_group(MemoryStore(files), zarr_format=3)
        for name, dtype in self.dtypes.items():
            _column_array(group, name, dtype, self.rows, self.epochs)
        return {name: content.to_bytes() for name, content in files.items() if name != GROUP_FILE}

    def _file(self, name: str) -> File:
        path = self.path / name
        return {"bytes": path.stat().st_size, "seal": _seal(path, (self._chunk, self._shard)) or "damaged"}

    def _write_shard(self, path: Path, values: np.ndarray[Any, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.writelines(_encoded(values, self._chunk, self._shard))


def write_store(path: Path, blocks: Iterable[Columns], rows: int, attributes: Mapping[str, Any]) -> None:
    """Write a store from blocks of rows, with no more of them in memory than four files and a block.

    Args:
        path: folder to make, in place of what a killed attempt may have left there.
        blocks: columns of rows 0 ... ``rows`` - 1, in order, in blocks of any length; float32, int16, ...
        rows: number of samples.
        attributes: what a reader should know: JSON without NaN.

    Raises:
        ValueError: for blocks that are not ``rows`` rows of the same columns, or attributes that are not JSON.
    """
    _checksum(attributes)  # fails early when they are not JSON
    rmtree(path, ignore_errors=True)
    blocks = iter(blocks)
    first = next(blocks, None)
    if first is None:
        raise ValueError(f"there are no blocks, but should be {rows} rows")
    writer = StoreWriter(path, {name: str(values.dtype) for name, values in first.items()}, rows)
    start = 0
    for columns in recut(chain([first], blocks), SHARD_ROWS * max(1, FILES_AT_ONCE // len(first))):
        writer.write(columns, start=start)
        start += _common_length(columns)
    writer.finish(attributes)


def recut(blocks: Iterable[Columns], length: int) -> Iterator[Columns]:
    """The same rows in blocks of ``length`` rows; the last one has what is left."""
    waiting: list[Columns] = []
    rows = 0
    for block in blocks:
        for start, stop in _ranges(rows, rows + _common_length(block), length):
            waiting.append({name: values[start - rows : stop - rows] for name, values in block.items()})
            if stop % length == 0:
                yield _join(waiting)
                waiting = []
        rows += _common_length(block)
    if waiting:
        yield _join(waiting)


def _join(blocks: list[Columns]) -> Columns:
    first = blocks[0]
    if len(blocks) == 1:
        return first
    for block in blocks:
        if {name: values.dtype for name, values in block.items()} != {name: first[name].dtype for name in first}:
            raise ValueError(f"columns are {_kinds(block)}, but should be as before, {_kinds(first)}")
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _column_array(group: zarr.Group, name: str, dtype: str, rows: int, epochs: int | None) -> zarr.Array[Any]:
    """An array as every column of such a store is."""
    chunk, shard = _chunk_and_shard(rows)
    epoch = () if epochs is None else (1,)
    return group.create_array(
        name,
        shape=_shape(rows, epochs),
        dtype=dtype,
        chunks=(*epoch, chunk),
        shards=(*epoch, shard),
        compressors=_codecs(dtype),
        fill_value=FILL_VALUES[dtype],
        dimension_names=("sample",) if epochs is None else ("epoch", "sample"),
    )


def _encoded(values: np.ndarray[Any, Any], chunk: int, shard: int) -> Iterator[bytes]:
    """The pieces of a shard's file: its chunks, each with its CRC-32C, and where they lie.

    The same bytes as Zarr's own writer, which takes three times as long: it copies each chunk several times. Layout:
    https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
    """
    dtype = str(values.dtype)
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    index, place = [], 0
    for start, stop in _ranges(0, len(values), chunk):
        piece = little[start:stop]
        if len(piece) < chunk:
            piece = np.concatenate([piece, np.full(chunk - len(piece), FILL_VALUES[dtype], piece.dtype)])
        content = piece.tobytes() if _is_float(dtype) else Zstd(ZSTD_LEVEL).encode(piece)
        yield content
        yield _crc32c(content)
        index += [place, len(content) + 4]
        place += len(content) + 4
    index += [ABSENT] * (2 * -(-shard // chunk) - len(index))
    table = np.array(index, "<u8").tobytes()
    yield table
    yield _crc32c(table)


def _seal(path: Path, chunk_and_shard: tuple[int, int], *, every_byte: bool = False) -> str | None:
    """The SHA-256 of where a shard's chunks lie and of their checksums, or of an array's zarr.json.

    None where the index, or with ``every_byte`` a chunk, is not what its CRC-32C says.
    """
    if path.name == GROUP_FILE:
        return digest(path)
    chunk, shard = chunk_and_shard
    content = np.memmap(path, np.uint8, "r")
    index = content[-16 * (shard // chunk) - 4 : -4].tobytes()
    if _crc32c(index) != content[-4:].tobytes():
        return None
    seal = hashlib.sha256(index)
    for place, size in np.frombuffer(index, "<u8").reshape(-1, 2).tolist():
        if place == ABSENT:
            continue
        checksum = content[place + size - 4 : place + size].tobytes()
        if every_byte and _crc32c(content[place : place + size - 4].tobytes()) != checksum:
            return None
        seal.update(checksum)
    return seal.hexdigest()


def _unpacking_problem(path: Path, dtype: str, chunk_and_shard: tuple[int, int]) -> str | None:
    """Why the chunks of a shard, whose checksums are right, must not be unpacked; None where they may.

    A few bytes of Zstandard can unpack to any size, so each frame has to state the size of a chunk. Checksums of
    chunks that overlap would be right, too, so they have to lie one behind the other and fill the file.
    """
    chunk, shard = chunk_and_shard
    expected = chunk * np.dtype(dtype).itemsize
    content = np.memmap(path, np.uint8, "r")
    table = 16 * (shard // chunk) + 4
    end = 0
    for place, size in np.frombuffer(content[-table:-4].tobytes(), "<u8").reshape(-1, 2).tolist():
        if (place, size) == (ABSENT, ABSENT):
            continue
        if place != end:
            return f"a chunk lies at {place:,}, but should at {end:,}"
        unpacked = size - 4 if _is_float(dtype) else _unpacked_size(content[place : place + 18].tobytes())
        if unpacked != expected:
            return f"the chunk at {place:,} would unpack to {unpacked} bytes, but should to {expected:,}"
        end += size
    return None if end + table == len(content) else "its chunks do not fill it"


def _unpacked_size(frame: bytes) -> int | None:
    """The size that a Zstandard frame says its content has; None where it says none (RFC 8878, section 3.1.1.1)."""
    if frame[:4] != b"\x28\xb5\x2f\xfd":
        return None
    flags = frame[4]
    single, dictionary = flags >> 5 & 1, (0, 1, 2, 4)[flags & 3]
    length = (single, 2, 4, 8)[flags >> 6]
    start = 6 - single + dictionary
    if length == 0 or len(frame) < start + length:
        return None
    return int.from_bytes(frame[start : start + length], "little") + (256 if length == 2 else 0)


def _crc32c(content: bytes) -> bytes:
    return struct.pack("<I", google_crc32c.value(content))


def _chunk_and_shard(rows: int) -> tuple[int, int]:
    """Rows of a chunk and of a shard in a store of so many rows; a small store is one chunk."""
    chunk = min(CHUNK_ROWS, rows)
    return chunk, min(SHARD_ROWS, chunk * -(-rows // chunk))


def _codecs(dtype: str) -> list[BytesBytesCodec]:
    return [Crc32cCodec()] if _is_float(dtype) else [ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()]


def _is_float(dtype: str) -> bool:
    return dtype.startswith("float")


def _shape(rows: int, epochs: int | None) -> tuple[int, ...]:
    return (rows,) if epochs is None else (epochs, rows)


def _ranges(start: int, stop: int, length: int) -> Iterator[tuple[int, int]]:
    """``start`` ... ``stop`` cut at the multiples of ``length``."""
    while start < stop:
        end = min(stop, start - start % length + length)
        yield start, end
        start = end


def _shard_names(column: str, start: int, stop: int, epochs: int | range | None) -> Iterator[str]:
    """The files that hold rows ``start`` ... ``stop`` - 1 of a column, in all or some epochs."""
    shards = range(start // SHARD_ROWS, -(-stop // SHARD_ROWS))
    if epochs is None:
        yield from (f"{column}/c/{shard}" for shard in shards)
    else:
        epochs = range(epochs) if isinstance(epochs, int) else epochs
        yield from (f"{column}/c/{epoch}/{shard}" for epoch in epochs for shard in shards)


def _file_names(path: Path) -> list[str]:
    """All files below ``path`` but the group's own, by relative path."""
    names = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return sorted(name for name in names if name != GROUP_FILE)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _checksum(attributes: Mapping[str, Any]) -> str:
    text = json.dumps(attributes, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _common_length(columns: Columns) -> int:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1 or any(values.ndim != 1 for values in columns.values()):
        raise ValueError(f"columns are {_kinds(columns)}, but should be 1-D and of one length")
    return lengths.pop()


def _kinds(columns: Columns) -> str:
    return ", ".join(f"{name} {values.dtype} {values.shape}" for name, values in columns.items())
