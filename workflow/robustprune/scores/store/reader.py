"""Opening a store, checking its metadata and files, and reading its columns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import MemoryStore

from robustprune.core.errors import UserError
from robustprune.core.rows import Columns, ranges
from robustprune.core.settings import COLUMN_PATTERN
from robustprune.scores.store import layout
from robustprune.scores.store.layout import FILL_VALUES, GROUP_FILE, SCHEMA_VERSION, File, shard_names
from robustprune.scores.store.shards import OTHER_CHECKSUMS, DamagedShard, largest_shard, read_shard, seal

FILE_TYPES = {"bytes": int, "seal": str}
LARGEST_GROUP_FILE = 2**26  # bytes; the largest recording of the papers' scale needs a fifth
LARGEST_ARRAY_FILE = 2**16  # bytes; they have a thousand or two


@dataclass(frozen=True)
class Store:
    """An open store."""

    path: Path
    attributes: dict[str, Any]  # further attributes, given by the writer
    rows: int
    epochs: int | None  # None if columns have no such dimension
    dtypes: dict[str, str]  # by column
    files: dict[str, File]  # size and seal of each file except the group's zarr.json, by relative path

    def read(self, column: str, start: int = 0, stop: int | None = None) -> np.ndarray[Any, Any]:
        """Return rows ``start`` to ``stop`` - 1 of a column, (rows,) or (epochs, rows), after checking their checksums.

        Raises UserError if there is no such column, or a file of these rows is missing or damaged.
        """
        stop = self.rows if stop is None else stop
        self._check_column(column)
        values = np.empty((self.epochs or 1, stop - start), self.dtypes[column])
        for first, last in ranges(start, stop, layout.SHARD_ROWS):
            for epoch, name in enumerate(shard_names(column, first, last, self.epochs)):
                self.require(name)
                target = values[epoch, first - start : last - start]
                try:
                    read_shard(self.path / name, self._cut, target, first % layout.SHARD_ROWS)
                except DamagedShard as error:
                    raise UserError(f"{self.path}: {name} {error}; make the stage again") from None
        return values[0] if self.epochs is None else values

    def blocks(self, *columns: str) -> Iterator[Columns]:
        """Yield the rows of some columns, all by default, in order, in blocks of bounded size."""
        rows = layout.SHARD_ROWS if self.epochs is None else layout.CHUNK_ROWS
        for start, stop in ranges(0, self.rows, rows):
            yield {column: self.read(column, start, stop) for column in columns or self.dtypes}

    def problems(self) -> list[str]:
        """Return the store's faults, one sentence each, after reading every byte of it; empty if it is intact."""
        faults = [problem for name in self.files if (problem := self.problem(name)) is not None]
        names = layout.file_names(self.path)
        faults += [f"{name} does not belong to the store" for name in names if name not in self.files]
        faults += [f"{name} is a symbolic link, and a store has none" for name in layout.links(self.path)]
        if faults:
            return faults
        try:
            self.check_columns()
        except UserError as error:
            return [str(error)]
        return []

    def problem(self, name: str) -> str | None:
        """Return the fault of one file, after reading every byte of it; None if it is intact."""
        if (problem := self._size_problem(name)) is not None:
            return problem
        try:
            if seal(self.path / name, self._cut) != self.files[name]["seal"]:
                return f"{name} {OTHER_CHECKSUMS}"
            if not name.endswith(GROUP_FILE):
                column, *_, shard = name.split("/")
                rows = min(self.rows - int(shard) * layout.SHARD_ROWS, layout.SHARD_ROWS)
                read_shard(self.path / name, self._cut, np.empty(rows, self.dtypes[column]), 0)
        except DamagedShard as error:
            return f"{name} {error}"
        return None

    def check_columns(self) -> None:
        """Raise UserError unless every column's zarr.json is that of such a store."""
        for column in self.dtypes:
            self._check_column(column)

    def require(self, name: str) -> None:
        """Raise UserError unless a file exists with its stated size."""
        if (problem := self._size_problem(name)) is not None:
            raise UserError(f"{self.path}: {problem}; make the stage again")

    @property
    def _cut(self) -> tuple[int, int]:
        return layout.chunk_and_shard(self.rows)

    def _size_problem(self, name: str) -> str | None:
        file, stated = self.path / name, self.files[name]["bytes"]
        if not file.is_file():
            return f"{name} is missing"
        size = file.stat().st_size
        return None if size == stated else f"{name} is damaged: it has {size} bytes, and was written with {stated}"

    def _check_column(self, column: str) -> None:
        if column not in self.dtypes:
            raise UserError(f"{self.path} has no column {column!r}; it has {', '.join(self.dtypes)}")
        self.require(f"{column}/{GROUP_FILE}")
        dtype, path = self.dtypes[column], self.path / column
        try:
            array = zarr.open_array(path, mode="r", zarr_format=3)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
            raise UserError(f"{path / GROUP_FILE} does not describe a column: {error}") from None
        expected = layout.column_array(zarr.create_group(MemoryStore()), column, dtype, self.rows, self.epochs)
        if (array.dtype, array.shape) != (expected.dtype, expected.shape):
            raise UserError(f"{path} is {array.dtype} {array.shape}, but should be {dtype} {expected.shape}")
        metadata = array.metadata.to_dict()
        for key, value in expected.metadata.to_dict().items():
            if metadata.get(key) != value:
                raise UserError(f"{path / GROUP_FILE}: {key} is not as in a store of this schema")


def open_store(path: Path, *, pool_digest: str | None = None) -> Store:
    """Open a store and check that it has all its files in the stated sizes; their content is checked when it is read.

    ``pool_digest`` is that of the pool whose samples the store should describe; None for any. Raises UserError if the
    folder is not a store of this schema, belongs to another pool, or lacks a file.
    """
    store = read_contents(path)
    digest = store.attributes.get("pool_digest")
    if pool_digest is not None and digest != pool_digest:
        raise UserError(f"{path} is about the pool with digest {digest}, not {pool_digest}")
    for link in layout.links(path):
        raise UserError(f"{path}: {link} is a symbolic link, and a store has none")
    for name in store.files:
        store.require(name)
    return store


def read_contents(path: Path) -> Store:
    """Read and check a store's zarr.json; the other files may not be there yet.

    Raises UserError if it is missing or damaged, or describes an impossible store: it may come from a stranger.
    """
    try:
        attributes = _read_attributes(path / GROUP_FILE)
        version = attributes.pop("schema_version")
        if version != SCHEMA_VERSION:
            raise UserError(
                f"{path} has schema version {_short(version)}, but this version reads {SCHEMA_VERSION}; make it again"
            )
        checksum = attributes.pop("checksum")
        intact = checksum == layout.checksum_of(attributes)
        contents = {key: attributes.pop(key) for key in ("rows", "epochs", "dtypes", "files")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not a finished store ({type(error).__name__}: {error})") from None
    if not intact:
        raise UserError(f"{path / GROUP_FILE} is damaged: its attributes are not those it was written with")
    problem = _problem_of_dimensions(contents) or _problem_of_files(contents)
    if problem is not None:
        raise UserError(f"{path / GROUP_FILE}: {problem}")
    return Store(path, attributes, **contents)


def _read_attributes(path: Path) -> dict[str, Any]:
    if path.is_symlink() or path.stat().st_size > LARGEST_GROUP_FILE:
        raise ValueError(f"{path.name} is a link or has more than {LARGEST_GROUP_FILE} bytes")
    attributes: dict[str, Any] = json.loads(path.read_text())["attributes"]
    return attributes


def _problem_of_dimensions(contents: Mapping[str, Any]) -> str | None:
    """Return why no store can have these rows, epochs and columns; None if one can."""
    rows, epochs, dtypes = contents["rows"], contents["epochs"], contents["dtypes"]
    if type(rows) is not int or rows < 1:
        return f"rows = {_short(rows)} should be a whole number above 0"
    if epochs is not None and (type(epochs) is not int or epochs < 1):
        return f"epochs = {_short(epochs)} should be a whole number above 0, or null"
    if not isinstance(dtypes, dict) or not dtypes:
        return "dtypes should name the columns"
    for name, dtype in dtypes.items():
        if re.fullmatch(COLUMN_PATTERN, name) is None:
            return f"{_short(name)} cannot be a column's name: it should be of a-z, 0-9 and _"
        if dtype not in list(FILL_VALUES):
            return f"column {name} is {_short(dtype)}, but should be one of {', '.join(FILL_VALUES)}"
    return None


def _problem_of_files(contents: Mapping[str, Any]) -> str | None:
    """Return why these cannot be the files of a store with these rows; None if they can."""
    rows, epochs, dtypes, files = (contents[key] for key in ("rows", "epochs", "dtypes", "files"))
    expected = len(dtypes) * (1 + -(-rows // layout.SHARD_ROWS) * (epochs or 1))
    count = len(files) if isinstance(files, dict) else "no"
    if count != expected:
        return f"{count} files are listed, but {', '.join(dtypes)} of {rows:,} rows take {expected:,}"
    for column, dtype in dtypes.items():
        names = dict.fromkeys(shard_names(column, 0, rows, epochs), largest_shard(rows, dtype))
        for name, limit in {f"{column}/{GROUP_FILE}": LARGEST_ARRAY_FILE, **names}.items():
            if name not in files:
                return f"{name} is not listed, but {_short(next(iter(set(files) - set(names))))} is"
            stated = files[name]
            if not isinstance(stated, dict) or {key: type(stated[key]) for key in stated} != FILE_TYPES:
                return f"{name} has no size and seal"
            if not 0 < stated["bytes"] <= limit:
                return f"{name} is said to have {stated['bytes']:,} bytes, but can have at most {limit:,}"
    return None


def _short(value: object) -> str:
    """Return a stranger's value for a message, cut to 80 characters."""
    return repr(value)[:80]
