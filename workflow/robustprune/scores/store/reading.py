"""Opening a store and reading its columns; nothing damaged is read as a number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import MemoryStore

from robustprune.core.errors import UserError
from robustprune.core.rows import Columns, ranges
from robustprune.scores.store import layout
from robustprune.scores.store.contents import contents_of
from robustprune.scores.store.layout import (
    GROUP_FILE,
    File,
    chunk_and_shard,
    column_array,
    file_names,
    links,
    shape_of,
    shard_names,
)
from robustprune.scores.store.shards import OTHER_CHECKSUMS, DamagedShard, rows_of, seal


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
        self._check_column(column)
        values = np.empty((self.epochs or 1, stop - start), self.dtypes[column])
        for first, last in ranges(start, stop, layout.SHARD_ROWS):
            for epoch, name in enumerate(shard_names(column, first, last, self.epochs)):
                self.require(name)
                try:
                    self._read_shard(name, values[epoch, first - start : last - start], first % layout.SHARD_ROWS)
                except DamagedShard as error:
                    raise UserError(f"{self.path}: {name} {error}; make the stage again") from None
        return values[0] if self.epochs is None else values

    def blocks(self, *columns: str) -> Iterator[Columns]:
        """The rows of some columns, all by default, in blocks of bounded size, in order."""
        rows = layout.SHARD_ROWS if self.epochs is None else layout.CHUNK_ROWS
        for start, stop in ranges(0, self.rows, rows):
            yield {column: self.read(column, start, stop) for column in columns or self.dtypes}

    def problems(self) -> list[str]:
        """Return the store's faults, a sentence each, after reading back every byte of it; empty when all is well.

        Every chunk is compared with its checksum and unpacked, and the checksums are compared with the file's seal.
        """
        found = [problem for name in self.files if (problem := self.problem(name)) is not None]
        found += [f"{name} does not belong to the store" for name in file_names(self.path) if name not in self.files]
        found += [f"{name} is a symbolic link, and a store has none" for name in links(self.path)]
        if found:
            return found
        try:
            self.check_columns()
        except UserError as error:
            return [str(error)]
        return []

    def check_columns(self) -> None:
        """Raises UserError unless every column's own zarr.json is what it should be."""
        for column in self.dtypes:
            self._check_column(column)

    def require(self, name: str) -> None:
        """Raises UserError unless a file is there in its stated size."""
        problem = f"{name} is missing" if not (self.path / name).is_file() else self._wrong_size(name)
        if problem is not None:
            raise UserError(f"{self.path}: {problem}; make the stage again")

    def _check_column(self, column: str) -> None:
        if column not in self.dtypes:
            raise UserError(f"{self.path} has no column {column!r}; it has {', '.join(self.dtypes)}")
        self.require(f"{column}/{GROUP_FILE}")
        try:
            array = zarr.open_array(self.path / column, mode="r", zarr_format=3)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
            raise UserError(f"{self.path / column / GROUP_FILE} does not describe a column: {error}") from None
        stated = f"{self.dtypes[column]} {shape_of(self.rows, self.epochs)}"
        if f"{array.dtype} {array.shape}" != stated:
            raise UserError(f"{self.path / column} is {array.dtype} {array.shape}, but should be {stated}")
        expected = column_array(zarr.create_group(MemoryStore()), column, self.dtypes[column], self.rows, self.epochs)
        for key, value in expected.metadata.to_dict().items():
            if array.metadata.to_dict().get(key) != value:
                raise UserError(f"{self.path / column / GROUP_FILE}: {key} is not as in a store of this schema")

    def _read_shard(self, name: str, values: np.ndarray[Any, Any], start: int) -> None:
        """Fill (rows,) ``values`` with those of a file, from its row ``start`` on. Raises DamagedShard."""
        cut, done = chunk_and_shard(self.rows), 0
        for piece in rows_of(self.path / name, str(values.dtype), cut, start, start + len(values)):
            values[done : done + len(piece)] = piece
            done += len(piece)

    def _wrong_size(self, name: str) -> str | None:
        size, stated = (self.path / name).stat().st_size, self.files[name]["bytes"]
        return None if size == stated else f"{name} is damaged: it has {size} bytes, and was written with {stated}"

    def problem(self, name: str) -> str | None:
        """Return what is wrong with one file, after reading every byte of it; None when all is well."""
        if not (self.path / name).is_file():
            return f"{name} is missing"
        if (wrong_size := self._wrong_size(name)) is not None:
            return wrong_size
        try:
            if seal(self.path / name, chunk_and_shard(self.rows)) != self.files[name]["seal"]:
                return f"{name} {OTHER_CHECKSUMS}"
            if not name.endswith(GROUP_FILE):
                column, *_, shard = name.split("/")
                rows = min(self.rows - int(shard) * layout.SHARD_ROWS, layout.SHARD_ROWS)
                self._read_shard(name, np.empty(rows, self.dtypes[column]), 0)
        except DamagedShard as error:
            return f"{name} {error}"
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
    for link in links(path):
        raise UserError(f"{path}: {link} is a symbolic link, and a store has none")
    for name in store.files:
        store.require(name)
    return store


def read_contents(path: Path) -> Store:
    """Return what a store's own zarr.json says, after a check that it can be true; its files may not be there yet.

    Raises:
        UserError: when there is none, it is damaged, or it describes what no store of this schema is.
    """
    attributes, contents = contents_of(path)
    return Store(path, attributes, **contents)
