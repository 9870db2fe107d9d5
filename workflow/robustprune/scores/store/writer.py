"""Writing a store file by file; each file is complete or absent after a kill."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from robustprune.core.errors import UserError
from robustprune.core.files import replacing, write_text
from robustprune.core.rows import Columns, ranges
from robustprune.scores.store import layout
from robustprune.scores.store.layout import FILL_VALUES, GROUP_FILE, SCHEMA_VERSION, File, shard_names
from robustprune.scores.store.shards import DamagedShard, encoded, seal

FILES_AT_ONCE = 4  # written at the same time


class StoreWriter:
    """Writes a store of known size, in any order of shards; the store can be opened once it is finished.

    Each file is on disk, complete, when ``write`` returns. After a kill, a writer of the same columns keeps the
    finished files; writing rows again replaces them by the same bytes.

    Args:
        path: folder to create.
        dtypes: dtype of each column, one of ``FILL_VALUES``.
        rows: number of samples.
        epochs: number of epochs; None for columns without that dimension.

    Raises ValueError for another dtype or an empty store.
    """

    def __init__(self, path: Path, dtypes: Mapping[str, str], rows: int, epochs: int | None = None) -> None:
        if rows < 1 or epochs == 0 or not dtypes:
            raise ValueError(f"a store of {len(dtypes)} columns, {rows} rows and {epochs} epochs would be empty")
        for name, dtype in dtypes.items():
            if dtype not in FILL_VALUES:
                raise ValueError(f"column {name} is {dtype}, but should be one of {', '.join(FILL_VALUES)}")
        self.path, self.dtypes, self.rows, self.epochs = path, dict(dtypes), rows, epochs
        self._cut = layout.chunk_and_shard(rows)
        metadata = self._metadata()
        if not all((path / name).is_file() and (path / name).read_bytes() == metadata[name] for name in metadata):
            rmtree(path, ignore_errors=True)
            for name, content in metadata.items():
                write_text(path / name, content.decode())

    def write(self, columns: Columns, *, start: int = 0, epoch: int | None = None) -> None:
        """Write the n rows of every column from row ``start`` on, of one epoch if the store has epochs.

        ``start`` and ``start`` + n are multiples of ``SHARD_ROWS``, or the end. Raises ValueError if columns, dtypes,
        lengths or borders are not those of the store.
        """
        stop = start + _common_length(columns)
        if {name: str(values.dtype) for name, values in columns.items()} != self.dtypes:
            raise ValueError(f"columns are {_kinds(columns)}, but should be 1-D {self.dtypes}")
        if start % layout.SHARD_ROWS or not (stop % layout.SHARD_ROWS == 0 or stop == self.rows) or stop > self.rows:
            raise ValueError(
                f"rows {start} to {stop} are not whole files of {layout.SHARD_ROWS} rows, of {self.rows} in all"
            )
        if (epoch is None) != (self.epochs is None) or (epoch is not None and not 0 <= epoch < (self.epochs or 0)):
            raise ValueError(f"epoch {epoch} is not one of {self.epochs}")
        epochs = None if epoch is None else range(epoch, epoch + 1)
        with ThreadPoolExecutor(FILES_AT_ONCE) as threads:  # a file waits for the disk while others are encoded
            waiting = [
                threads.submit(self._write_shard, self.path / file, values[first - start : last - start])
                for name, values in columns.items()
                for first, last in ranges(start, stop, layout.SHARD_ROWS)
                for file in shard_names(name, first, last, epochs)
            ]
        for written in waiting:
            written.result()

    def finish(self, attributes: Mapping[str, Any]) -> None:
        """Write the group's zarr.json with further ``attributes``, after which the store can be opened.

        Raises ValueError if rows were not written or attributes are not JSON, UserError if a written file is damaged.
        """
        for leftover in self.path.rglob(".*"):  # of an attempt killed while writing
            leftover.unlink()
        expected = {f"{name}/{GROUP_FILE}" for name in self.dtypes}
        expected.update(*(shard_names(column, 0, self.rows, self.epochs) for column in self.dtypes))
        files = {name: self._file(name) for name in layout.file_names(self.path)}
        if set(files) != expected:
            missing, foreign = sorted(expected - set(files)), sorted(set(files) - expected)
            raise ValueError(f"{self.path} lacks {missing[:3]}, and has {foreign[:3]} that do not belong to it")
        contents = {"rows": self.rows, "epochs": self.epochs, "dtypes": self.dtypes, "files": files}
        stated = {**attributes, **contents}
        final = {"schema_version": SCHEMA_VERSION, "checksum": layout.checksum_of(stated), **stated}
        group = {"zarr_format": 3, "node_type": "group", "attributes": final}
        write_text(self.path / GROUP_FILE, json.dumps(group, indent=1, allow_nan=False) + "\n")

    def _metadata(self) -> dict[str, bytes]:
        """Return each array's zarr.json, by path, as Zarr writes it."""
        files: dict[str, Buffer] = {}
        group = zarr.create_group(MemoryStore(files), zarr_format=3)
        for name, dtype in self.dtypes.items():
            layout.column_array(group, name, dtype, self.rows, self.epochs)
        return {name: content.to_bytes() for name, content in files.items() if name != GROUP_FILE}

    def _file(self, name: str) -> File:
        path = self.path / name
        try:
            return {"bytes": path.stat().st_size, "seal": seal(path, self._cut)}
        except DamagedShard as error:
            raise UserError(f"{path} {error}; make the stage again") from None

    def _write_shard(self, path: Path, values: np.ndarray[Any, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.writelines(encoded(values, *self._cut))


def write_store(path: Path, blocks: Iterable[Columns], rows: int, attributes: Mapping[str, Any]) -> None:
    """Write a store from blocks of rows; at most four files and a block are in memory at once.

    Args:
        path: folder to create, in place of one that a killed attempt may have left.
        blocks: columns of rows 0 to ``rows`` - 1, in order, in blocks of any length.
        rows: number of samples.
        attributes: further attributes for readers: JSON without NaN.

    Raises ValueError if the blocks are not ``rows`` rows of the same columns, or attributes are not JSON.
    """
    layout.checksum_of(attributes)  # fails early if they are not JSON
    rmtree(path, ignore_errors=True)
    blocks = iter(blocks)
    first = next(blocks, None)
    if first is None:
        raise ValueError(f"there are no blocks, but should be {rows} rows")
    writer = StoreWriter(path, {name: str(values.dtype) for name, values in first.items()}, rows)
    start = 0
    for columns in recut(chain([first], blocks), layout.SHARD_ROWS * max(1, FILES_AT_ONCE // len(first))):
        writer.write(columns, start=start)
        start += _common_length(columns)
    writer.finish(attributes)


def recut(blocks: Iterable[Columns], length: int) -> Iterator[Columns]:
    """Yield the same rows in blocks of ``length`` rows; the last one holds the rest."""
    waiting: list[Columns] = []
    rows = 0
    for block in blocks:
        for start, stop in ranges(rows, rows + _common_length(block), length):
            waiting.append({name: values[start - rows : stop - rows] for name, values in block.items()})
            if stop % length == 0:
                yield _join(waiting)
                waiting = []
        rows += _common_length(block)
    if waiting:
        yield _join(waiting)


def _join(blocks: list[Columns]) -> Columns:
    if len(blocks) == 1:
        return blocks[0]
    dtypes = {name: values.dtype for name, values in blocks[0].items()}
    for block in blocks:
        if {name: values.dtype for name, values in block.items()} != dtypes:
            raise ValueError(f"columns are {_kinds(block)}, but should be as before, {_kinds(blocks[0])}")
    return {name: np.concatenate([block[name] for block in blocks]) for name in dtypes}


def _common_length(columns: Columns) -> int:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1 or any(values.ndim != 1 for values in columns.values()):
        raise ValueError(f"columns are {_kinds(columns)}, but should be 1-D and of one length")
    return lengths.pop()


def _kinds(columns: Columns) -> str:
    return ", ".join(f"{name} {values.dtype} {values.shape}" for name, values in columns.items())
