"""WebDataset tar files: members that share a name form a sample, such as ``0001.jpg`` and ``0001.cls``.

The label is the integer in the ``.cls`` member, or ``label`` in the ``.json`` member. Nothing is unpacked to disk.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from robustprune.core.errors import UserError
from robustprune.images.formats.data_format import DataFormat, data_format
from robustprune.images.formats.finding import parts_of
from robustprune.images.formats.listing import SUFFIXES, require_allowed_size
from robustprune.images.formats.stream import EncodedImage, ImageStream, Pictures, decoding_stream
from robustprune.images.sources import FileSource, planned_files
from robustprune.images.tars import members, opened_tar

if TYPE_CHECKING:
    from robustprune.images.ingested import IngestedPoolStage

DEFINITION = {"pools.decoding": 1, "pools.ingest.listing": 1, "pools.ingest.webdataset": 1}
IMAGES, LABELS = tuple(suffix.removeprefix(".") for suffix in SUFFIXES), ("cls", "json")


class _Member(NamedTuple):
    """A member of a sample. Consecutive members with the same key form a sample."""

    key: str  # the path up to the first dot of the file name
    suffix: str  # without the first dot
    info: tarfile.TarInfo


def _count(path: Path) -> int:
    with opened_tar(path, packed=True) as archive:
        return sum(1 for _ in _samples(path, archive))


def _read(path: Path, first: int) -> Iterator[EncodedImage]:
    """Read samples from ``first`` on, in the order of the file: seeking back in a compressed file restarts it."""
    with opened_tar(path, packed=True) as archive:
        for key, parts in islice(_samples(path, archive), first, None):
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
    name, where = PurePosixPath(member.name), f"{path}: the member {member.name!r}"
    if name.is_absolute() or ".." in name.parts:
        raise UserError(f"{where} points outside the tar file; remove it")
    if not member.isfile():
        raise UserError(f"{where} is not a regular file; replace links and devices by files")
    require_allowed_size(member.size, where)


def _encoded(path: Path, key: str, contents: dict[str, bytes]) -> EncodedImage:
    images = [suffix for suffix in contents if suffix in IMAGES]
    label = next((suffix for suffix in LABELS if suffix in contents), None)
    where = f"{path.name}: the sample {key}"
    if len(images) != 1 or label is None:
        suffixes = ", ".join(f".{suffix}" for suffix in contents)
        raise UserError(f"{path.parent / where} should have one image and .cls or .json, but has {suffixes}")
    number = _label(contents[label], label, str(path.parent / where))
    return EncodedImage(contents[images[0]], number, where)


def _contents(path: Path, archive: tarfile.TarFile, parts: Iterable[_Member]) -> dict[str, bytes]:
    """Return the contents of a sample's members by suffix, empty for members that are neither image nor label."""
    contents: dict[str, bytes] = {}
    for part in parts:
        if part.suffix in contents:
            raise UserError(f"{path}: the sample {part.key} has .{part.suffix} twice")
        contents[part.suffix] = b""
        if part.suffix in (*IMAGES, *LABELS):
            file = archive.extractfile(part.info)
            assert file is not None  # _check allows regular files only
            contents[part.suffix] = file.read()
    return contents


def _label(content: bytes, suffix: str, where: str) -> int:
    try:
        value = json.loads(content)["label"] if suffix == "json" else int(content)
    except (ValueError, KeyError, TypeError, RecursionError):
        value = None
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{where}: the label in .{suffix} should be an integer, but is {content[:40]!r}")
    return value


@data_format(
    "webdataset",
    pictures=True,
    generated=True,
    hint="tar files are named train-000000.tar and so on, with members such as 0001.jpg and 0001.cls",
)
class WebdatasetFormat(DataFormat):
    """Images in webdataset files."""

    def files(self, folder: Path, split: str) -> list[Path]:
        """Return ``train-000000.tar``, ``train-000001.tar`` and so on, or the same with ``.tar.gz``."""
        return parts_of(folder, rf"{split}-(\d+)\.tar(?:\.gz)?") or [folder / f"{split}-000000.tar"]

    def open_stream(self, stage: IngestedPoolStage) -> ImageStream:
        """Return the samples of the tar files of ``stage.source``, in order. Counts them first, without reading images.

        Raises:
            UserError: if a file is missing, damaged, or has a member that is not a regular file inside it; in the
            blocks,
                if a sample has no image or label.
        """
        assert isinstance(stage.source, FileSource)
        files = planned_files(stage.source)
        counts = [_count(path) for path in files]

        def encoded(first: int) -> Iterator[EncodedImage]:
            for path, count in zip(files, counts, strict=True):
                if first < count:
                    yield from _read(path, first)
                first = max(0, first - count)

        return decoding_stream(sum(counts), Pictures(files[0].parent, encoded), shape=stage.image_shape)
