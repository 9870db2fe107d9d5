"""A folder of images with a sub-folder for each class: what is in it, and in which order it is read."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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
    """The names of the sub-folders, sorted; hidden ones do not count."""
    return tuple(
        sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    )


def image_files(folder: Path) -> list[ImageFile]:
    """The pictures in the sub-folders, at any depth, by their suffix; hidden files and others do not count.

    They are in the order of the SHA-256 of their paths, which is as good as random and always the same: in the order of
    their names the first images would all be of one class.
    """
    files = [
        ImageFile(path, label)
        for label, name in enumerate(class_names(folder))
        for path in _pictures(folder / name, name)
    ]
    return sorted(files, key=lambda file: hashlib.sha256(file.path.encode()).digest())


def _pictures(folder: Path, prefix: str) -> Iterator[str]:
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _pictures(Path(entry.path), f"{prefix}/{entry.name}")
        elif entry.name.lower().endswith(SUFFIXES):
            yield f"{prefix}/{entry.name}"
