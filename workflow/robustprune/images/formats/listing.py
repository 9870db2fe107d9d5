"""Listing of a folder of images with one sub-folder per class: its class names, and its images in reading order."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from robustprune.core.errors import UserError
from robustprune.core.files import is_utf8
from robustprune.images.encoded import LARGEST_BYTES

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class ImageFile(NamedTuple):
    """An image in an image folder.

    Attributes:
        path: relative to the folder, with slashes.
        label: index of its class in ``class_names``.
    """

    path: str
    label: int


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the sub-folders that are not hidden. Raises UserError like ``image_files``."""
    return tuple(sorted(name for name, is_folder in _entries(folder) if is_folder))


def image_files(folder: Path) -> list[ImageFile]:
    """Return the files with an image suffix in the sub-folders, at any depth, without hidden files.

    They are sorted by the SHA-256 of their paths, which mixes the classes in a reproducible order.

    Raises:
        UserError: if a folder cannot be read or contains itself, a name is not UTF-8, or an image is not a regular file
            or is too large.
    """
    files = [
        ImageFile(path, label)
        for label, name in enumerate(class_names(folder))
        for path in _images(folder / name, name, (folder.resolve(),))
    ]
    return sorted(files, key=lambda file: hashlib.sha256(file.path.encode()).digest())


def _images(folder: Path, prefix: str, parents: tuple[Path, ...]) -> Iterator[str]:
    resolved = folder.resolve()
    if resolved in parents:
        raise UserError(f"{folder} links to {resolved}, which contains it; remove the link")
    for name, is_folder in _entries(folder):
        if is_folder:
            yield from _images(folder / name, f"{prefix}/{name}", (*parents, resolved))
        else:
            yield f"{prefix}/{name}"


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """Return the names of the sub-folders (True) and images (False) in a folder, without hidden ones."""
    entries = []
    try:
        with os.scandir(folder) as scanned:
            for entry in scanned:
                is_image = entry.name.lower().endswith(SUFFIXES)
                if entry.name.startswith(".") or not (entry.is_dir() or is_image):
                    continue
                require_utf8(entry.name, folder)
                if not entry.is_dir():
                    require_image_file(entry)
                entries.append((entry.name, entry.is_dir()))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from None
    return entries


def require_utf8(name: str, folder: Path) -> None:
    """Raise UserError if a file name in ``folder`` is not UTF-8."""
    if not is_utf8(name):
        raise UserError(f"{folder} contains the name {os.fsencode(name)!r}, which is not UTF-8; rename it")


def require_image_file(entry: os.DirEntry[str]) -> int:
    """Return the size of an image file in bytes.

    Raises:
        UserError: if it is not a regular file or is too large.
        OSError: if it is a broken link.
    """
    status = entry.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{entry.path} is named as an image, but is not a regular file")
    require_allowed_size(status.st_size, entry.path)
    return status.st_size


def require_allowed_size(size: int, where: str) -> None:
    """Raise UserError if an encoded image has more than ``LARGEST_BYTES`` bytes."""
    if size > LARGEST_BYTES:
        raise UserError(f"{where} has {size:,} bytes; the limit is {LARGEST_BYTES:,}")
