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
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from robustprune.errors import UserError
from robustprune.pools.encoding import EncodedImage
from robustprune.pools.ingest.listing import SUFFIXES
from robustprune.pools.ingest.stream import ImageStream, Pictures, decoding_stream
from robustprune.sources import planned_files
from robustprune.specs import FileSource, IngestedPoolSpec

DEFINITION = 1
LARGEST_MEMBER = 2**26  # bytes; a picture is smaller, and a few bytes of gzip can become any number


def open_stream(spec: IngestedPoolSpec) -> ImageStream:
    """The samples of the tar files of ``spec.source``, in order. They are counted first, for which no picture is read.

    Raises:
        UserError: naming a file that is gone, is no whole tar file, or has a member that is no plain file inside it; in
            its blocks, a sample without picture or label.
    """
    assert isinstance(spec.source, FileSource)
    files = planned_files(spec.source)
    counts = [sum(1 for _ in _samples(path)) for path in files]

    def encoded(first: int) -> Iterator[EncodedImage]:
        for path, count in zip(files, counts, strict=True):
            if first < count:
                yield from _read(path, first)
            first = max(0, first - count)

    return decoding_stream(sum(counts), Pictures(files[0].parent, encoded), shape=spec.image_shape)


class _Sample(NamedTuple):
    archive: tarfile.TarFile
    key: str
    members: dict[str, tarfile.TarInfo]  # by suffix, without the dot


def _read(path: Path, first: int) -> Iterator[EncodedImage]:
    for number, sample in enumerate(_samples(path)):
        if number >= first:
            yield _encoded(path, sample)


def _samples(path: Path) -> Iterator[_Sample]:
    """Members that follow one another and share their name up to the first dot."""
    with _whole(path), tarfile.open(path) as archive:
        sample = _Sample(archive, "", {})
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
            if member.isdir() or PurePosixPath(member.name).name.startswith("."):
                continue
            _check(path, member)
            match = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]+)", member.name.removeprefix("./"))
            key, suffix = (match[1], match[2].lower()) if match else (member.name, "")
            if key != sample.key and sample.members:
                yield sample
            if key != sample.key:
                sample = _Sample(archive, key, {})
            sample.members[suffix] = member
        if sample.members:
            yield sample
        _check_end(path, archive)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{path} is not a whole tar file: {error}") from None


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


def _encoded(path: Path, sample: _Sample) -> EncodedImage:
    pictures = [suffix for suffix in sample.members if f".{suffix}" in SUFFIXES]
    label = next((suffix for suffix in ("cls", "json") if suffix in sample.members), None)
    where = f"{path.name}: the sample {sample.key}"
    if len(pictures) != 1 or label is None:
        found = ", ".join(f".{suffix}" for suffix in sample.members)
        raise UserError(f"{path.parent / where} should have one picture, and .cls or .json, but has {found}")
    number = _label(_content(sample, label), label, str(path.parent / where))
    return EncodedImage(_content(sample, pictures[0]), number, where)


def _content(sample: _Sample, suffix: str) -> bytes:
    file = sample.archive.extractfile(sample.members[suffix])
    assert file is not None  # it is a plain file
    return file.read()


def _label(content: bytes, suffix: str, where: str) -> int:
    try:
        value = json.loads(content)["label"] if suffix == "json" else int(content)
    except (ValueError, KeyError, TypeError):
        value = None
    if not isinstance(value, int):
        raise UserError(f"{where} has no whole number as its label in .{suffix}, but {content[:40]!r}")
    return value
