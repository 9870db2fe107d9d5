"""How the columns of a store are cut into files and chunks, and what its files are called."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import Crc32cCodec, ZstdCodec

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

ZSTD_LEVEL = 1  # counts and flags shrink to a tenth; floats hardly do, and are stored as they are

File = dict[str, int | str]  # "bytes": size, "seal": 64 hex digits


def column_array(group: zarr.Group, name: str, dtype: str, rows: int, epochs: int | None) -> zarr.Array[Any]:
    """An array as every column of such a store is."""
    chunk, shard = chunk_and_shard(rows)
    epoch = () if epochs is None else (1,)
    return group.create_array(
        name,
        shape=shape_of(rows, epochs),
        dtype=dtype,
        chunks=(*epoch, chunk),
        shards=(*epoch, shard),
        compressors=codecs_of(dtype),
        fill_value=FILL_VALUES[dtype],
        dimension_names=("sample",) if epochs is None else ("epoch", "sample"),
    )


def codecs_of(dtype: str) -> list[BytesBytesCodec]:
    """Return what a chunk goes through after it is bytes; the last is its checksum."""
    return [Crc32cCodec()] if is_float(dtype) else [ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()]


def is_float(dtype: str) -> bool:
    """Return True if a column is stored as it is, uncompressed."""
    return dtype.startswith("float")


def shape_of(rows: int, epochs: int | None) -> tuple[int, ...]:
    """The shape of a column's array."""
    return (rows,) if epochs is None else (epochs, rows)


def chunk_and_shard(rows: int) -> tuple[int, int]:
    """Rows of a chunk and of a shard in a store of so many rows; a small store is one chunk."""
    chunk = min(CHUNK_ROWS, rows)
    return chunk, min(SHARD_ROWS, chunk * -(-rows // chunk))


def shard_names(column: str, start: int, stop: int, epochs: int | range | None) -> Iterator[str]:
    """The files that hold rows ``start`` ... ``stop`` - 1 of a column, in all or some epochs."""
    shards = range(start // SHARD_ROWS, -(-stop // SHARD_ROWS))
    if epochs is None:
        yield from (f"{column}/c/{shard}" for shard in shards)
    else:
        epochs = range(epochs) if isinstance(epochs, int) else epochs
        yield from (f"{column}/c/{epoch}/{shard}" for epoch in epochs for shard in shards)


def file_names(path: Path) -> list[str]:
    """All files below ``path`` but the group's own, by relative path."""
    names = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return sorted(name for name in names if name != GROUP_FILE)


def links(path: Path) -> Iterator[str]:
    """Symbolic links below a folder, by relative path."""
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            file = Path(folder, name)
            if file.is_symlink():
                yield file.relative_to(path).as_posix()


def checksum_of(attributes: Mapping[str, Any]) -> str:
    """The SHA-256 of a group's attributes. Raises ValueError when they are not JSON, or have NaN."""
    text = json.dumps(attributes, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
