"""Tar files of any origin: whatever a header states, reading ends, takes little memory, and misses nothing."""

import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Self

from robustprune.core.errors import UserError
from robustprune.core.files import READ_AT_ONCE, is_utf8

LARGEST_HEADER = 2**16  # bytes of a name or of a PAX header
HEADER_TYPES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
DAMAGES = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, IndexError, RecursionError)


class _Header(tarfile.TarInfo):
    """A member of which tarfile reads no more than ``LARGEST_HEADER`` bytes into memory: long names and PAX headers."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in HEADER_TYPES and header.size > LARGEST_HEADER):
            allowed = f"a long name or a PAX header may have 0 to {LARGEST_HEADER:,}"
            raise ValueError(f"a member states {header.size:,} bytes; {allowed}")
        return header

    def _refuse_sparse(self, *_: object) -> NoReturn:
        """The map of a sparse file can be of any length, and pictures have no holes."""
        raise ValueError("a member is a sparse file; pack it as a plain one")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


@contextmanager
def opened_tar(path: Path, *, packed: bool) -> Iterator[tarfile.TarFile]:
    """Open a tar file, plain or, if ``packed``, by gzip, bzip2 or xz; damage found in the block is a UserError."""
    try:
        with tarfile.open(path, "r:*" if packed else "r:", tarinfo=_Header) as archive:
            yield archive
    except DAMAGES as error:
        raise UserError(f"{path} is not a whole tar file: {' '.join(str(error).split())}") from None


def members(path: Path, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar file that was just opened, and read it to its end.

    Raises:
        UserError: if the file is damaged, has no end or has more after it, or a name is not UTF-8.
    """
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
        end = member.offset_data + max(0, member.size) if member.isreg() else member.offset_data
        if archive.offset < end:  # a PAX header can state any size, and lead back to this member
            raise UserError(f"{path}: the member {member.name!r} is not of the size that its header states")
        if not is_utf8(member.name):
            raise UserError(f"{path}: the member {os.fsencode(member.name)!r} has a name that is not UTF-8")
        yield member
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # it is cut between two members
        raise UserError(f"{path} is not a whole tar file: it has no end")
    while content := file.read(READ_AT_ONCE):  # to the last byte, when the checksum of a packed file is compared
        if content.count(0) < len(content):
            raise UserError(f"{path} has more after the end of its tar file; unpack and pack it anew")
