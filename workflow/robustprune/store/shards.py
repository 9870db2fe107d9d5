"""The files of a column: how their bytes are made, sealed, and checked before they are unpacked."""

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Zstd

from robustprune.files import sha256
from robustprune.store.layout import FILL_VALUES, GROUP_FILE, ZSTD_LEVEL, chunk_and_shard, is_float, ranges

ABSENT = 2**64 - 1  # place of a chunk that its shard lacks, in the shard's index


def encoded(values: np.ndarray[Any, Any], chunk: int, shard: int) -> Iterator[bytes]:
    """The pieces of a shard's file: its chunks, each with its CRC-32C, and where they lie.

    The same bytes as Zarr's own writer, which takes three times as long: it copies each chunk several times. Layout:
    https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
    """
    dtype = str(values.dtype)
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    index, place = [], 0
    for start, stop in ranges(0, len(values), chunk):
        piece = little[start:stop]
        if len(piece) < chunk:
            piece = np.concatenate([piece, np.full(chunk - len(piece), FILL_VALUES[dtype], piece.dtype)])
        content = piece.tobytes() if is_float(dtype) else Zstd(ZSTD_LEVEL).encode(piece)
        yield content
        yield crc32c(content)
        index += [place, len(content) + 4]
        place += len(content) + 4
    index += [ABSENT] * (2 * -(-shard // chunk) - len(index))
    table = np.array(index, "<u8").tobytes()
    yield table
    yield crc32c(table)


def seal(path: Path, cut: tuple[int, int], *, every_byte: bool = False) -> str | None:
    """The SHA-256 of where a shard's chunks lie and of their checksums, or of an array's zarr.json.

    None where there is no room for the index, or this, or with ``every_byte`` a chunk, is not what its CRC-32C says.
    """
    if path.name == GROUP_FILE:
        return sha256(path)
    chunk, shard = cut
    content = np.memmap(path, np.uint8, "r")
    table = 16 * (shard // chunk) + 4
    index = content[-table:-4].tobytes()
    if len(content) < table or crc32c(index) != content[-4:].tobytes():
        return None
    checksums = hashlib.sha256(index)
    for place, size in np.frombuffer(index, "<u8").reshape(-1, 2).tolist():
        if place == ABSENT:
            continue
        checksum = content[place + size - 4 : place + size].tobytes()
        if every_byte and crc32c(content[place : place + size - 4].tobytes()) != checksum:
            return None
        checksums.update(checksum)
    return checksums.hexdigest()


def unpacking_problem(path: Path, dtype: str, cut: tuple[int, int]) -> str | None:
    """Why the chunks of a shard, whose checksums are right, must not be unpacked; None where they may.

    A few bytes of Zstandard can unpack to any size, so each frame has to state the size of a chunk. Checksums of
    chunks that overlap would be right, too, so they have to lie one behind the other and fill the file.
    """
    chunk, shard = cut
    expected = chunk * np.dtype(dtype).itemsize
    content = np.memmap(path, np.uint8, "r")
    table = 16 * (shard // chunk) + 4
    end = 0
    for place, size in np.frombuffer(content[-table:-4].tobytes(), "<u8").reshape(-1, 2).tolist():
        if (place, size) == (ABSENT, ABSENT):
            continue
        if place != end:
            return f"a chunk lies at {place:,}, but should at {end:,}"
        unpacked = size - 4 if is_float(dtype) else unpacked_size(content[place : place + 18].tobytes())
        if unpacked != expected:
            return f"the chunk at {place:,} would unpack to {unpacked} bytes, but should to {expected:,}"
        end += size
    return None if end + table == len(content) else "its chunks do not fill it"


def unpacked_size(frame: bytes) -> int | None:
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


def largest_shard(rows: int, dtype: str) -> int:
    """Bytes: every chunk as it is, or a little more (Zstandard's bound), its checksum, and the index with its own."""
    chunk, shard = chunk_and_shard(rows)
    content = chunk * np.dtype(dtype).itemsize
    return (shard // chunk) * (content + (content >> 8) + 64 + 4 + 16) + 4


def crc32c(content: bytes) -> bytes:
    """The checksum of ``content``, as it lies in a file."""
    return struct.pack("<I", google_crc32c.value(content))
