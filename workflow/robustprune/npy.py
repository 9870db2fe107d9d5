"""The header of an npy file, which is anyone's: whatever is wrong with it is a ValueError."""

from typing import IO, Any, NamedTuple

import numpy as np


class Header(NamedTuple):
    """What an npy file says of its array.

    Attributes:
        shape: its sizes.
        fortran_order: whether the first index changes fastest.
        dtype: of its numbers.
    """

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]


def read_header(file: IO[bytes]) -> Header:
    """Read a header of version 1 or 2; the numbers begin where the file is then.

    Raises:
        ValueError: for a header that is none, is damaged or has a size below 0.
    """
    try:
        header = Header(*_read(file))
    except Exception as error:  # numpy reads a header as Python, which can fail in any way
        raise ValueError(f"no readable npy header: {' '.join(str(error).split()) or type(error).__name__}") from None
    if min(header.shape, default=0) < 0:
        raise ValueError(f"no readable npy header: it states the shape {header.shape}")
    return header


def _read(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the npy format is not known")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)
