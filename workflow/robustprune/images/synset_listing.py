"""Listing of the images of each synset in a folder: ``<synset>/*.JPEG`` or ``<synset>.tar``."""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.files import hash_lines
from robustprune.core.settings import DIGEST_PATTERN, Settings
from robustprune.images.formats.listing import require_allowed_size, require_image_file, require_utf8
from robustprune.images.tars import members, opened_tar

ARCHIVE_SUFFIX = ".tar"
IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp")
KEY_BYTES = 8


class SynsetFolder(Settings):
    """A folder with a folder or archive of images for each synset; ``digest`` is of the names and sizes of images."""

    digest: str = Field(pattern=DIGEST_PATTERN)
    location: str


@dataclass(frozen=True)
class ListedImage:
    """Location of an image."""

    synset: str
    name: str  # in the folder or archive of the synset
    size: int  # bytes
    offset: int | None  # of its first byte in the archive; None for a separate file

    def file(self, folder: Path) -> Path:
        """Return the path of the image, or of the archive that contains it."""
        return folder / self.synset / self.name if self.offset is None else folder / f"{self.synset}{ARCHIVE_SUFFIX}"


def synset_entries(folder: Path) -> dict[str, Path]:
    """Return the folder or archive of each synset, sorted by synset.

    Raises:
        UserError: if there is none, both a folder and an archive for one synset, or a name that is not UTF-8.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    entries: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() or entry.suffix == ARCHIVE_SUFFIX:
            require_utf8(entry.name, folder)
            if not (entry.is_dir() or entry.is_file()):
                raise UserError(f"{entry} should be a folder or a tar file, but is neither")
            synset = entry.stem if entry.suffix == ARCHIVE_SUFFIX else entry.name
            if synset in entries:
                raise UserError(f"{folder} has both {entries[synset].name} and {entry.name}; remove one of them")
            entries[synset] = entry
    if not entries:
        raise UserError(f"{folder} has neither a folder nor a .tar archive for any synset, such as n02084071.tar")
    return dict(sorted(entries.items()))


def list_images(synset: str, entry: Path) -> list[ListedImage]:
    """Return the images of a synset, sorted by name; files without an image suffix are ignored.

    Raises:
        UserError: if an archive is damaged or contains a name twice, or an image is not a regular file, is too large,
            or has a name that is not UTF-8.
    """
    try:
        listed = _in_archive(synset, entry) if entry.suffix == ARCHIVE_SUFFIX else _in_folder(synset, entry)
        images = sorted(listed, key=lambda image: image.name)
    except OSError as error:
        raise UserError(f"{entry} cannot be read: {error}") from None
    for first, second in itertools.pairwise(images):
        if first.name == second.name:
            raise UserError(f"{entry} contains {first.name} twice")
    return images


def _in_folder(synset: str, folder: Path) -> Iterator[ListedImage]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(IMAGE_SUFFIXES):
                require_utf8(entry.name, folder)
                yield ListedImage(synset, entry.name, require_image_file(entry), None)


def _in_archive(synset: str, path: Path) -> Iterator[ListedImage]:
    """List members without extracting them, so that a member's name cannot point outside the archive."""
    with opened_tar(path, packed=False) as archive:
        for member in members(path, archive):
            if member.name.lower().endswith(IMAGE_SUFFIXES) and not member.isdir():
                where = f"{path}: the member {member.name!r}"
                if not member.isreg():
                    raise UserError(f"{where} is named as an image, but is not a regular file")
                require_allowed_size(member.size, where)
                yield ListedImage(synset, member.name, member.size, member.offset_data)


def folder_fingerprint(entries: Mapping[str, Path]) -> str:
    """Return a SHA-256 of the sizes of archives, and of the names and sizes of images in folders."""
    lines = []
    for synset, entry in entries.items():
        is_archive = entry.suffix == ARCHIVE_SUFFIX
        state = str(entry.stat().st_size) if is_archive else listing_digest(list_images(synset, entry))
        lines.append(f"{entry.name} {state}")
    return hash_lines(lines)


def require_folder(folder: Path, fingerprint: str) -> None:
    """Raise UserError if the files of a folder changed after planning."""
    if folder_fingerprint(synset_entries(folder)) != fingerprint:
        raise UserError(f"{folder}: the images changed since the plan was made; restore them or plan again")


def listing_digest(images: Iterable[ListedImage]) -> str:
    """Return the SHA-256 of the synsets, names and sizes of images; terabytes of contents are not read."""
    lines = "".join(f"{image.synset}\0{image.name}\0{image.size}\n" for image in images)
    return hashlib.sha256(lines.encode()).hexdigest()


def shuffled(images: list[ListedImage], *, seed: int) -> list[ListedImage]:
    """Return the images in random order. The sort key of an image depends only on the seed, its synset and its name."""

    def key(image: ListedImage) -> bytes:
        return hashlib.blake2b(f"{seed}\0{image.synset}\0{image.name}".encode(), digest_size=KEY_BYTES).digest()

    return sorted(images, key=key)
