"""A folder of images with a sub-folder for each class: what is in it, and in which order it is read."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from robustprune.errors import UserError
from robustprune.files import is_utf8
from robustprune.pools.limits import LARGEST_BYTES

DEFINITION = 1
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class ImageFile(NamedTuple):
    """A picture in an image folder.

    Attributes:
        path: relative to the folder, with slashes.
        label: the place of its class among the folder's class names.
    """

    path: str
    label: int


def class_names(folder: Path) -> tuple[str, ...]:
    """The names of the sub-folders, sorted; hidden ones do not count. Raises UserError as ``image_files``."""
    return tuple(sorted(name for name, is_folder in _entries(folder) if is_folder))


def image_files(folder: Path) -> list[ImageFile]:
    """The pictures in the sub-folders, at any depth, by their suffix; hidden files and others do not count.

    They are in the order of the SHA-256 of their paths, which is as good as random and always the same: in the order of
    their names the first images would all be of one class.

    Raises:
        UserError: naming a folder that cannot be read or lies within itself, a name that is not UTF-8, or what is named
            as a picture, but is no plain file or larger than pictures are.
    """
    files = [
        ImageFile(path, label)
        for label, name in enumerate(class_names(folder))
        for path in _pictures(folder / name, name, (folder.resolve(),))
    ]
    return sorted(files, key=lambda file: hashlib.sha256(file.path.encode()).digest())


def _pictures(folder: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[str]:
    place = folder.resolve()
    if place in above:
        raise UserError(f"{folder} is a link to {place}, in which it lies itself")
    for name, is_folder in _entries(folder):
        if is_folder:
            yield from _pictures(folder / name, f"{prefix}/{name}", (*above, place))
        else:
            yield f"{prefix}/{name}"


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """The names of the sub-folders (True) and pictures (False) of a folder, without hidden ones."""
    try:
        with os.scandir(folder) as found:
            entries = [(entry.name, _is_folder(entry)) for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from None
    counted = [(name, is_folder) for name, is_folder in entries if is_folder or name.lower().endswith(SUFFIXES)]
    for name, _ in counted:
        if not is_utf8(name):
            raise UserError(f"{folder} has the name {os.fsencode(name)!r}, which is not UTF-8; rename it")
    return counted


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Raises OSError for a link that is named as a picture and leads nowhere, UserError for what is no picture."""
    if entry.is_dir():
        return True
    if entry.name.lower().endswith(SUFFIXES):
        status = entry.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{entry.path} should be a picture, but is no plain file")
        if status.st_size > LARGEST_BYTES:
            raise UserError(f"{entry.path} has {status.st_size:,} bytes; {LARGEST_BYTES:,} are allowed")
    return False
