"""Encoding and decoding of the files of a column; their checksums are checked before anything is unpacked."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from numcodecs import Zstd

from robustprune.core.files import sha256
from robustprune.core.rows import ranges
from robustprune.scores.store.layout import FILL_VALUES, GROUP_FILE, ZSTD_LEVEL, chunk_and_shard, is_float

ABSENT = 2**64 - 1  # offset of a missing chunk in a shard's index
OTHER_CHECKSUMS = "is damaged: its checksums are not those it was written with"


class DamagedShard(Exception):
    """A fault of a shard's file: ``is damaged: ...`` or ``cannot be read: ...``."""


def encoded(values: np.ndarray[Any, Any], chunk: int, shard: int) -> Iterator[bytes]:
    """Yield the pieces of a shard's file: its chunks, each with its CRC-32C, and the index of their offsets.

    The bytes are those of Zarr's writer, which takes three times as long because it copies each chunk several times:
    https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
    """
    dtype = str(values.dtype)
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    index, offset = [], 0
    for start, stop in ranges(0, len(values), chunk):
        rows = little[start:stop]
        if len(rows) < chunk:
            rows = np.pad(rows, (0, chunk - len(rows)), constant_values=FILL_VALUES[dtype])
        content = rows.tobytes() if is_float(dtype) else Zstd(ZSTD_LEVEL).encode(rows)
        yield content
        yield crc32c(content)
        index += [offset, len(content) + 4]
        offset += len(content) + 4
    index += [ABSENT] * (2 * -(-shard // chunk) - len(index))
    table = np.array(index, "<u8").tobytes()
    yield table
    yield crc32c(table)


def read_shard(path: Path, cut: tuple[int, int], values: np.ndarray[Any, Any], start: int) -> None:
    """Fill ``values`` with the rows of a shard from its row ``start`` on, each chunk checked against its CRC-32C.

    Takes a fifth of the time of Zarr, which passes each chunk from thread to thread. ``cut`` holds the rows of a chunk
    and of a shard. Raises DamagedShard if the file cannot be read.
    """
    chunk, _ = cut
    with path.open("rb") as file:
        places = _read_index(file, cut)
        for first, last in ranges(start, start + len(values), chunk):
            offset, size = places[first // chunk]
            if offset == ABSENT:
                raise DamagedShard(f"cannot be read: it lacks the chunk of its row {first:,}")
            file.seek(offset)
            content, checksum = file.read(size - 4), file.read(4)
            if crc32c(content) != checksum:
                raise DamagedShard(OTHER_CHECKSUMS)
            decoded = _decode(content, values.dtype.newbyteorder("<"), chunk, offset)
            values[first - start : last - start] = decoded[first % chunk :][: last - first]


def seal(path: Path, cut: tuple[int, int]) -> str:
    """Return the SHA-256 of the index and checksums of a shard's chunks, or of an array's zarr.json.

    Raises DamagedShard if the index is damaged or impossible.
    """
    if path.name == GROUP_FILE:
        return sha256(path)
    with path.open("rb") as file:
        places = _read_index(file, cut)
        checksums = hashlib.sha256(np.array(places, "<u8").tobytes())
        for offset, size in places:
            if offset != ABSENT:
                file.seek(offset + size - 4)
                checksums.update(file.read(4))
    return checksums.hexdigest()


def _read_index(file: BinaryIO, cut: tuple[int, int]) -> list[tuple[int, int]]:
    """Return offset and size of each chunk, from the end of a shard's file.

    Raises DamagedShard unless their CRC-32C is right and the chunks fill the file one after another: overlapping chunks
    would also have correct checksums.
    """
    chunk, shard = cut
    length, table, end = os.fstat(file.fileno()).st_size, 16 * (shard // chunk), 0
    file.seek(max(0, length - table - 4))
    index, checksum = file.read(table), file.read(4)
    if len(index) < table or crc32c(index) != checksum:
        raise DamagedShard(OTHER_CHECKSUMS)
    places: list[tuple[int, int]] = [tuple(pair) for pair in np.frombuffer(index, "<u8").reshape(-1, 2).tolist()]
    for offset, size in places:
        if (offset, size) == (ABSENT, ABSENT):
            continue
        if offset != end or size < 4:
            raise DamagedShard(f"cannot be read: a chunk lies at {offset:,}, but should at {end:,}")
        end += size
    if end + table + 4 != length:
        raise DamagedShard("cannot be read: its chunks do not fill it")
    return places


def _decode(content: bytes, dtype: np.dtype[Any], rows: int, offset: int) -> np.ndarray[Any, Any]:
    """Return the (rows,) values of a chunk. Zstandard frames must state their size: a few bytes can unpack to any."""
    expected = rows * dtype.itemsize
    size = len(content) if is_float(dtype.name) else unpacked_size(content[:18])
    if size != expected:
        raise DamagedShard(f"cannot be read: the chunk at {offset:,} would unpack to {size} bytes, not {expected:,}")
    try:
        return np.frombuffer(content if is_float(dtype.name) else Zstd().decode(content), dtype, rows)
    except (RuntimeError, ValueError) as error:
        raise DamagedShard(f"cannot be read: the chunk at {offset:,} does not unpack: {error}") from None


def unpacked_size(frame: bytes) -> int | None:
    """Return the content size that a Zstandard frame states, None if it states none (RFC 8878, section 3.1.1.1)."""
    if len(frame) < 5 or frame[:4] != b"\x28\xb5\x2f\xfd":
        return None
    flags = frame[4]
    single, dictionary = flags >> 5 & 1, (0, 1, 2, 4)[flags & 3]
    length = (single, 2, 4, 8)[flags >> 6]
    start = 6 - single + dictionary
    if length == 0 or len(frame) < start + length:
        return None
    return int.from_bytes(frame[start : start + length], "little") + (256 if length == 2 else 0)


def largest_shard(rows: int, dtype: str) -> int:
    """Return the largest size of a shard, in bytes: chunks of Zstandard's largest size, checksums, and the index."""
    chunk, shard = chunk_and_shard(rows)
    content = chunk * np.dtype(dtype).itemsize
    return (shard // chunk) * (content + (content >> 8) + 64 + 4 + 16) + 4


def crc32c(content: bytes) -> bytes:
    """Return the checksum of ``content`` as stored in a file."""
    return struct.pack("<I", google_crc32c.value(content))
