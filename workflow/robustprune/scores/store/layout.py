"""How the columns of a store are cut into files and chunks, and the names of its files."""

from __future__ import annotations

import hashlib
import json
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
"""The dtypes that a column may have, and what pads its last chunk."""

ZSTD_LEVEL = 1  # counts and flags shrink to a tenth; floats hardly shrink and are stored uncompressed

File = dict[str, int | str]  # "bytes": size, "seal": 64 hex digits


def column_array(group: zarr.Group, name: str, dtype: str, rows: int, epochs: int | None) -> zarr.Array[Any]:
    """Create the array of a column, without its values."""
    chunk, shard = chunk_and_shard(rows)
    epoch = () if epochs is None else (1,)
    return group.create_array(
        name,
        shape=(rows,) if epochs is None else (epochs, rows),
        dtype=dtype,
        chunks=(*epoch, chunk),
        shards=(*epoch, shard),
        compressors=codecs_of(dtype),
        fill_value=FILL_VALUES[dtype],
        dimension_names=("sample",) if epochs is None else ("epoch", "sample"),
    )


def codecs_of(dtype: str) -> list[BytesBytesCodec]:
    """Return the codecs of a chunk's bytes; the last adds the checksum."""
    return [Crc32cCodec()] if is_float(dtype) else [ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()]


def is_float(dtype: str) -> bool:
    """Return True if a column is stored uncompressed."""
    return dtype.startswith("float")


def chunk_and_shard(rows: int) -> tuple[int, int]:
    """Return the rows of a chunk and of a shard in a store of ``rows`` rows; a small store is one chunk."""
    chunk = min(CHUNK_ROWS, rows)
    return chunk, min(SHARD_ROWS, chunk * -(-rows // chunk))


def shard_names(column: str, start: int, stop: int, epochs: int | range | None) -> list[str]:
    """Return the files that hold rows ``start`` to ``stop`` - 1 of a column, in all or some epochs."""
    shards = range(start // SHARD_ROWS, -(-stop // SHARD_ROWS))
    if epochs is None:
        return [f"{column}/c/{shard}" for shard in shards]
    epochs = range(epochs) if isinstance(epochs, int) else epochs
    return [f"{column}/c/{epoch}/{shard}" for epoch in epochs for shard in shards]


def file_names(path: Path) -> list[str]:
    """Return the relative paths of all files of a store, except the group's zarr.json."""
    names = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return sorted(name for name in names if name != GROUP_FILE)


def links(path: Path) -> Iterator[str]:
    """Yield the relative paths of all symbolic links in a folder."""
    return (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_symlink())


def checksum_of(attributes: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a group's attributes. Raises ValueError if they are not JSON or contain NaN."""
    text = json.dumps(attributes, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
