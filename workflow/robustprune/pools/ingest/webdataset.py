"""WebDataset: tar files in which the members of one name are a sample, ``0001.jpg`` and ``0001.cls``.

Nothing is unpacked to the disk. The label is the whole number in the member ``.cls``, or the key ``label`` of the
member ``.json``.
"""

import json
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Self

from robustprune.errors import UserError
from robustprune.pools.encoding import EncodedImage
from robustprune.pools.ingest.listing import SUFFIXES
from robustprune.pools.ingest.stream import ImageStream, Pictures, decoding_stream
from robustprune.sources import planned_files
from robustprune.specs import FileSource, IngestedPoolSpec

DEFINITION = 1
LARGEST_MEMBER = 2**26  # bytes; a picture is smaller, and a few bytes of gzip can become any number
LARGEST_HEADER = 2**16  # bytes of a name or of a PAX header
HEADER_TYPES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
PICTURES, LABELS = tuple(suffix.removeprefix(".") for suffix in SUFFIXES), ("cls", "json")
DAMAGES = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, IndexError, RecursionError)


def open_stream(spec: IngestedPoolSpec) -> ImageStream:
    """The samples of the tar files of ``spec.source``, in order. They are counted first, for which no picture is read.

    Raises:
        UserError: naming a file that is gone, is no whole tar file, or has a member that is no plain file inside it; in
            its blocks, a sample without picture or label.
    """
    assert isinstance(spec.source, FileSource)
    files = planned_files(spec.source)
    counts = [_count(path) for path in files]

    def encoded(first: int) -> Iterator[EncodedImage]:
        for path, count in zip(files, counts, strict=True):
            if first < count:
                yield from _read(path, first)
            first = max(0, first - count)

    return decoding_stream(sum(counts), Pictures(files[0].parent, encoded), shape=spec.image_shape)


class _Header(tarfile.TarInfo):
    """A member as tarfile reads it, but long names and PAX headers, which it takes into memory whole, are bounded."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in HEADER_TYPES and header.size > LARGEST_HEADER):
            allowed = f"a long name or a PAX header may have 0 to {LARGEST_HEADER:,}"
            raise ValueError(f"a member states {header.size:,} bytes; {allowed}")
        return header


class _Member(NamedTuple):
    """A member of a sample: those that follow one another and share their name up to the first dot."""

    key: str
    suffix: str  # without the first dot
    info: tarfile.TarInfo


def _count(path: Path) -> int:
    with _opened(path) as archive:
        return sum(1 for _ in _samples(path, archive))


def _read(path: Path, first: int) -> Iterator[EncodedImage]:
    """The samples from ``first`` on. A member is read when it is met: in a packed file, going back is reading anew."""
    with _opened(path) as archive:
        for number, (key, members) in enumerate(_samples(path, archive)):
            if number >= first:
                yield _encoded(path, key, {member.suffix: _content(archive, member) for member in members})


def _samples(path: Path, archive: tarfile.TarFile) -> Iterator[tuple[str, Iterator[_Member]]]:
    return groupby(_members(path, archive), key=lambda member: member.key)


def _members(path: Path, archive: tarfile.TarFile) -> Iterator[_Member]:
    while (info := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
        if archive.offset < info.offset_data:  # a PAX header can state any size, and lead back to this member
            raise UserError(f"{path}: the member {info.name!r} ends before it begins; its header is damaged")
        if info.isdir() or PurePosixPath(info.name).name.startswith("."):
            continue
        _check(path, info)
        match = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]+)", info.name.removeprefix("./"))
        yield _Member(match[1], match[2].lower(), info) if match else _Member(info.name, "", info)
    _check_end(path, archive)


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, tarinfo=_Header) as archive:
            yield archive
    except DAMAGES as error:
        raise UserError(f"{path} is not a whole tar file: {' '.join(str(error).split())}") from None


def _check(path: Path, member: tarfile.TarInfo) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise UserError(f"{path}: the member {member.name!r} lies outside the tar file; nothing of it is read")
    if not member.isfile():
        raise UserError(f"{path}: the member {member.name!r} is a link or a device, but should be a plain file")
    if member.size > LARGEST_MEMBER:
        raise UserError(f"{path}: the member {member.name!r} has {member.size:,} bytes; {LARGEST_MEMBER:,} are allowed")


def _check_end(path: Path, archive: tarfile.TarFile) -> None:
    """A tar file ends with blocks of zeros; one that is cut between two members looks whole otherwise."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise UserError(f"{path} is not a whole tar file: it has no end")


def _encoded(path: Path, key: str, members: dict[str, bytes]) -> EncodedImage:
    pictures = [suffix for suffix in members if suffix in PICTURES]
    label = next((suffix for suffix in LABELS if suffix in members), None)
    where = f"{path.name}: the sample {key}"
    if len(pictures) != 1 or label is None:
        found = ", ".join(f".{suffix}" for suffix in members)
        raise UserError(f"{path.parent / where} should have one picture, and .cls or .json, but has {found}")
    number = _label(members[label], label, str(path.parent / where))
    return EncodedImage(members[pictures[0]], number, where)


def _content(archive: tarfile.TarFile, member: _Member) -> bytes:
    """The bytes of a picture or a label; nothing of what is neither."""
    if member.suffix not in (*PICTURES, *LABELS):
        return b""
    file = archive.extractfile(member.info)
    assert file is not None  # it is a plain file
    return file.read()


def _label(content: bytes, suffix: str, where: str) -> int:
    try:
        value = json.loads(content)["label"] if suffix == "json" else int(content)
    except (ValueError, KeyError, TypeError, RecursionError):
        value = None
    if not isinstance(value, int):
        raise UserError(f"{where} has no whole number as its label in .{suffix}, but {content[:40]!r}")
    return value
