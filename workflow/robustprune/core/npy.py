"""The header of an npy file, alone or in an npz, which is anyone's: whatever is wrong with it is a ValueError."""

import zipfile
from typing import IO, Any, NamedTuple, cast

import numpy as np

LARGEST_HEADER = 2**16  # bytes
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of bzip2 or LZMA a few bytes are unpacked to any number at once


class Header(NamedTuple):
    """Header of an npy file."""

    shape: tuple[int, ...]
    fortran_order: bool  # True if the first index changes fastest
    dtype: np.dtype[Any]


def open_array(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A file in an npz. Raises ValueError where it is packed as numpy does not, and KeyError where there is none."""
    kind = archive.getinfo(name).compress_type
    if kind not in PACKINGS:
        packing = zipfile.compressor_names.get(kind, str(kind))  # type: ignore[attr-defined]  # not in its stub
        raise ValueError(f"it is packed by {packing}; only what is stored or deflated is read")
    return archive.open(name)


def read_header(file: IO[bytes]) -> Header:
    """Read a header of version 1 or 2, up to where the numbers begin. Raises ValueError for a damaged one."""
    try:
        header = Header(*_read(file))
    except Exception as error:  # numpy reads a header as Python, which can fail in any way
        raise ValueError(f"no readable npy header: {' '.join(str(error).split()) or type(error).__name__}") from None
    if min(header.shape, default=0) < 0:
        raise ValueError(f"no readable npy header: it states the shape {header.shape}")
    return header


class _Bounded:
    """A file of which no more is read than a header has: one of version 2 can state 4 GB, and numpy reads it first."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """As a file does."""
        if size > LARGEST_HEADER:
            raise ValueError(f"it states {size:,} bytes for its header; {LARGEST_HEADER:,} are allowed")
        return self._file.read(size)


def _read(whole: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    file = cast(IO[bytes], _Bounded(whole))
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the npy format is not known")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)
