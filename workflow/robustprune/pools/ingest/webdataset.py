"""WebDataset: tar files in which the members of one name are a sample, ``0001.jpg`` and ``0001.cls``.

Nothing is unpacked to the disk. The label is the whole number in the member ``.cls``, or the key ``label`` of the
member ``.json``.
"""

import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from robustprune.errors import UserError
from robustprune.pools.encoding import EncodedImage
from robustprune.pools.ingest.listing import SUFFIXES
from robustprune.pools.ingest.stream import ImageStream, Pictures, decoding_stream
from robustprune.pools.limits import LARGEST_BYTES
from robustprune.sources import planned_files
from robustprune.specs import FileSource, IngestedPoolSpec
from robustprune.tars import members, opened_tar

DEFINITION = 1
PICTURES, LABELS = tuple(suffix.removeprefix(".") for suffix in SUFFIXES), ("cls", "json")


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


class _Member(NamedTuple):
    """A member of a sample: those that follow one another and share their name up to the first dot."""

    key: str
    suffix: str  # without the first dot
    info: tarfile.TarInfo


def _count(path: Path) -> int:
    with opened_tar(path, packed=True) as archive:
        return sum(1 for _ in _samples(path, archive))


def _read(path: Path, first: int) -> Iterator[EncodedImage]:
    """The samples from ``first`` on. A member is read when it is met: in a packed file, going back is reading anew."""
    with opened_tar(path, packed=True) as archive:
        for number, (key, parts) in enumerate(_samples(path, archive)):
            if number >= first:
                yield _encoded(path, key, _contents(path, archive, parts))


def _samples(path: Path, archive: tarfile.TarFile) -> Iterator[tuple[str, Iterator[_Member]]]:
    return groupby(_members(path, archive), key=lambda member: member.key)


def _members(path: Path, archive: tarfile.TarFile) -> Iterator[_Member]:
    for info in members(path, archive):
        if info.isdir() or PurePosixPath(info.name).name.startswith("."):
            continue
        _check(path, info)
        match = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]+)", info.name.removeprefix("./"))
        yield _Member(match[1], match[2].lower(), info) if match else _Member(info.name, "", info)


def _check(path: Path, member: tarfile.TarInfo) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise UserError(f"{path}: the member {member.name!r} lies outside the tar file; nothing of it is read")
    if not member.isfile():
        raise UserError(f"{path}: the member {member.name!r} is a link or a device, but should be a plain file")
    if member.size > LARGEST_BYTES:
        raise UserError(f"{path}: the member {member.name!r} has {member.size:,} bytes; {LARGEST_BYTES:,} are allowed")


def _encoded(path: Path, key: str, contents: dict[str, bytes]) -> EncodedImage:
    pictures = [suffix for suffix in contents if suffix in PICTURES]
    label = next((suffix for suffix in LABELS if suffix in contents), None)
    where = f"{path.name}: the sample {key}"
    if len(pictures) != 1 or label is None:
        found = ", ".join(f".{suffix}" for suffix in contents)
        raise UserError(f"{path.parent / where} should have one picture, and .cls or .json, but has {found}")
    number = _label(contents[label], label, str(path.parent / where))
    return EncodedImage(contents[pictures[0]], number, where)


def _contents(path: Path, archive: tarfile.TarFile, parts: Iterable[_Member]) -> dict[str, bytes]:
    """The bytes of a sample's picture and label by their suffixes; nothing of what is neither."""
    contents: dict[str, bytes] = {}
    for part in parts:
        if part.suffix in contents:
            raise UserError(f"{path}: the sample {part.key} has .{part.suffix} twice")
        contents[part.suffix] = _content(archive, part) if part.suffix in (*PICTURES, *LABELS) else b""
    return contents


def _content(archive: tarfile.TarFile, member: _Member) -> bytes:
    file = archive.extractfile(member.info)
    assert file is not None  # it is a plain file
    return file.read()


def _label(content: bytes, suffix: str, where: str) -> int:
    try:
        value = json.loads(content)["label"] if suffix == "json" else int(content)
    except (ValueError, KeyError, TypeError, RecursionError):
        value = None
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{where} has no whole number as its label in .{suffix}, but {content[:40]!r}")
    return value
