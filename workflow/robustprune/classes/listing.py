"""The images of each synset, as they lie in a folder: ``<synset>/*.JPEG`` or ``<synset>.tar``, one entry a synset."""

import hashlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from robustprune.errors import UserError
from robustprune.files import is_utf8
from robustprune.pools.limits import LARGEST_BYTES
from robustprune.tars import members, opened_tar

DEFINITION = 1

ARCHIVE_SUFFIX = ".tar"
IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp")
KEY_BYTES = 8


@dataclass(frozen=True)
class ListedImage:
    """An image where it lies.

    Attributes:
        synset: whose it is.
        name: its file name, within the folder or the archive.
        size: bytes.
        offset: where it begins in the archive; None for a file of its own.
    """

    synset: str
    name: str
    size: int
    offset: int | None

    def file(self, folder: Path) -> Path:
        """The file that holds it: its own, or its synset's archive."""
        return folder / self.synset / self.name if self.offset is None else folder / f"{self.synset}{ARCHIVE_SUFFIX}"


def synset_entries(folder: Path) -> dict[str, Path]:
    """The folder or archive of each synset, by synset, ascending.

    Raises:
        UserError: when there is none, both a folder and an archive for one synset, or a name that is not UTF-8.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    found: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() or entry.suffix == ARCHIVE_SUFFIX:
            synset = entry.stem if entry.suffix == ARCHIVE_SUFFIX else entry.name
            if not is_utf8(synset):
                raise UserError(f"{folder} has the name {os.fsencode(entry.name)!r}, which is not UTF-8; rename it")
            if not (entry.is_dir() or entry.is_file()):
                raise UserError(f"{entry} should be a folder or a tar file, but is neither")
            if synset in found:
                raise UserError(f"{folder} has both {found[synset].name} and {entry.name}; one of them should go")
            found[synset] = entry
    if not found:
        raise UserError(f"{folder} has neither a folder nor a .tar archive for any synset, such as n02084071.tar")
    return dict(sorted(found.items()))


def list_images(synset: str, entry: Path) -> list[ListedImage]:
    """The images of one synset by name, ascending; files of other kinds are passed over.

    Raises:
        UserError: when an archive is damaged or names an image twice, or an image is no plain file, is larger than
            pictures are, or has a name that is not UTF-8.
    """
    try:
        listed = _archived(synset, entry) if entry.suffix == ARCHIVE_SUFFIX else _in_folder(synset, entry)
        images = sorted(listed, key=lambda image: image.name)
    except OSError as error:
        raise UserError(f"{entry} cannot be read: {error}") from None
    for image in images:
        _check(image, entry)
    for first, second in itertools.pairwise(images):
        if first.name == second.name:
            raise UserError(f"{entry} holds {first.name} twice")
    return images


def _in_folder(synset: str, folder: Path) -> Iterator[ListedImage]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(IMAGE_SUFFIXES):
                if not stat.S_ISREG((status := entry.stat()).st_mode):
                    raise UserError(f"{entry.path} should be a picture, but is no plain file")
                yield ListedImage(synset, entry.name, status.st_size, None)


def _check(image: ListedImage, entry: Path) -> None:
    if not is_utf8(image.name):
        raise UserError(f"{entry} has the name {os.fsencode(image.name)!r}, which is not UTF-8; rename it")
    if image.size > LARGEST_BYTES:
        raise UserError(f"{entry}: {image.name} has {image.size:,} bytes; {LARGEST_BYTES:,} are allowed")


def _archived(synset: str, path: Path) -> Iterator[ListedImage]:
    """Nothing is extracted: an image is its bytes between two offsets, so a member's name leads nowhere."""
    with opened_tar(path, packed=False) as archive:
        for member in members(path, archive):
            if member.name.lower().endswith(IMAGE_SUFFIXES) and not member.isdir():
                if not member.isreg():
                    raise UserError(f"{path}: the member {member.name!r} should be a picture, but is no plain file")
                yield ListedImage(synset, member.name, member.size, member.offset_data)


def folder_fingerprint(entries: Mapping[str, Path]) -> str:
    """SHA-256 of what can be seen without opening a file: the archives' sizes, and the names and sizes in folders."""
    lines = []
    for synset, entry in entries.items():
        state = (
            str(entry.stat().st_size) if entry.suffix == ARCHIVE_SUFFIX else listing_digest(list_images(synset, entry))
        )
        lines.append(f"{entry.name} {state}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def require_folder(folder: Path, fingerprint: str) -> None:
    """Raise UserError when a folder is gone or has other files than at the time of the plan."""
    if folder_fingerprint(synset_entries(folder)) != fingerprint:
        raise UserError(f"{folder}: the images changed since the plan was made; bring them back or plan again")


def listing_digest(images: Iterable[ListedImage]) -> str:
    """SHA-256 of synset, name and size of each image, in order: a folder of a terabyte is known by these."""
    hasher = hashlib.sha256()
    for image in images:
        hasher.update(f"{image.synset}\0{image.name}\0{image.size}\n".encode())
    return hasher.hexdigest()


def shuffled(images: list[ListedImage], *, seed: int) -> list[ListedImage]:
    """The images in random order; an image's luck depends on the seed and its name alone."""

    def key(image: ListedImage) -> bytes:
        return hashlib.blake2b(f"{seed}\0{image.synset}\0{image.name}".encode(), digest_size=KEY_BYTES).digest()

    return sorted(images, key=key)
