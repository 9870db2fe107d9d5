"""Score stores: columns of numbers, a row a sample of a pool, in a Zarr v3 group.

Each column is a 1-D array with the dimension ``sample``; row i is the sample with id i. Every chunk is compressed and
carries a CRC-32C; the group's attributes hold the SHA-256 of every file, because Zarr reads fill values where a file is
missing. A store is written once, whole.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from robustprune.errors import UserError
from robustprune.files import digest

SCHEMA_VERSION = 1
GROUP_FILE = "zarr.json"

CHUNK_ROWS = 2**16  # the unit of reading
SHARD_ROWS = 2**20  # the unit of writing, one file
FILL_VALUES: dict[str, float | int | bool] = {"float32": float("nan"), "int16": -1, "bool": False}
"""What stands for a value that was not computed, for each dtype that a column may have."""

Column = npt.NDArray[Any]


@dataclass(frozen=True)
class ScoreStore:
    """An open store.

    Attributes:
        path: its folder.
        attributes: what the writer had to say of it.
        rows: number of samples.
        dtypes: name of each column's dtype.
        checksums: SHA-256 of each file but the group's own, by path relative to the folder.
    """

    path: Path
    attributes: dict[str, Any]
    rows: int
    dtypes: dict[str, str]
    checksums: dict[str, str]

    def read(self, column: str, *, pool_digest: str | None = None) -> Column:
        """All rows of a column, after checking every one of its files.

        Args:
            column: name of the column.
            pool_digest: when given, the digest of the pool whose scores these should be.

        Raises:
            UserError: when there is no such column, it is damaged, or the scores are another pool's.
        """
        own = self.attributes.get("pool_digest")
        if pool_digest is not None and own != pool_digest:
            raise UserError(f"{self.path} holds scores of the pool with digest {own}, not {pool_digest}")
        if column not in self.dtypes:
            raise UserError(f"{self.path} has no column {column!r}; it has {', '.join(self.dtypes)}")
        self._check_files(column)
        array = zarr.open_array(self.path / column, mode="r", zarr_format=3)
        stated = f"{self.dtypes[column]} ({self.rows},)"
        if f"{array.dtype} {array.shape}" != stated:
            raise UserError(f"{self.path / column} is {array.dtype} {array.shape}, but should be {stated}")
        return np.asarray(array[:])

    def _check_files(self, column: str) -> None:
        for name, expected in self.checksums.items():
            if not name.startswith(f"{column}/"):
                continue
            if not (self.path / name).is_file():
                raise UserError(f"{self.path} lacks the file {name}; score the pool again")
            if digest(self.path / name) != expected:
                raise UserError(f"{self.path / name} is damaged: its SHA-256 is not the one it was written with")


def write_store(path: Path, columns: dict[str, Column], attributes: dict[str, Any]) -> None:
    """Write a store, in place of what a killed attempt may have left at ``path``.

    Args:
        path: folder to make.
        columns: (N,) arrays of one length, float32, int16 or bool.
        attributes: what a reader should know: JSON without NaN.

    Raises:
        ValueError: for columns of different lengths or another dtype, or attributes that are not JSON.
    """
    rows = _common_length(columns)
    json.dumps(attributes, allow_nan=False)  # Zarr would write a bare NaN, which is not JSON
    rmtree(path, ignore_errors=True)
    group = zarr.create_group(path, zarr_format=3)
    for name, values in columns.items():
        _write_column(group, name, values)
    dtypes = {name: str(values.dtype) for name, values in columns.items()}
    contents = {"schema_version": SCHEMA_VERSION, "rows": rows, "columns": dtypes, "checksums": _checksums(path)}
    group.update_attributes({**attributes, **contents})


def open_store(path: Path) -> ScoreStore:
    """Open a store and check that it has all its files; their content is checked when a column is read.

    Raises:
        UserError: when the folder is not a store of this schema, or a file is missing.
    """
    try:
        attributes = json.loads((path / GROUP_FILE).read_text())["attributes"]
        version = attributes.pop("schema_version")
        contents = {key: attributes.pop(key) for key in ("rows", "columns", "checksums")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a readable score store ({type(error).__name__}: {error})") from None
    if version != SCHEMA_VERSION:
        raise UserError(f"{path} has schema version {version}, but this version reads {SCHEMA_VERSION}; score again")
    missing = [name for name in contents["checksums"] if not (path / name).is_file()]
    if missing:
        raise UserError(f"{path} lacks {len(missing)} of its files, first {missing[0]}; score the pool again")
    return ScoreStore(path, attributes, contents["rows"], contents["columns"], contents["checksums"])


def _common_length(columns: dict[str, Column]) -> int:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"columns have lengths {sorted(lengths)}, but should have one in common, above 0")
    for name, values in columns.items():
        if values.ndim != 1 or str(values.dtype) not in FILL_VALUES:
            raise ValueError(
                f"column {name} is {values.dtype} {values.shape}, but should be 1-D {', '.join(FILL_VALUES)}"
            )
    return lengths.pop()


def _write_column(group: zarr.Group, name: str, values: Column) -> None:
    chunk = min(CHUNK_ROWS, len(values))
    shard = min(SHARD_ROWS, chunk * -(-len(values) // chunk))
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(chunk,),
        shards=(shard,),
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        fill_value=FILL_VALUES[str(values.dtype)],
        dimension_names=("sample",),
        config={"write_empty_chunks": True},  # a shard of nothing but fill values is still a file that can be missed
    )
    array[:] = values


def _checksums(path: Path) -> dict[str, str]:
    files = sorted(file for file in path.rglob("*") if file.is_file() and file != path / GROUP_FILE)
    return {file.relative_to(path).as_posix(): digest(file) for file in files}
