"""Sources of images, located and fingerprinted while the plan is made."""

from functools import cache
from pathlib import Path
from threading import Event
from typing import Annotated, Literal

from pydantic import Field

from robustprune.core.declarations import Named
from robustprune.core.errors import UserError
from robustprune.core.files import cached_digest, digest, file_digest, file_state, hash_lines
from robustprune.core.settings import DIGEST_PATTERN, Settings
from robustprune.images.formats.data_format import FORMATS, TORCHVISION_SETS
from robustprune.images.formats.finding import numbered_files
from robustprune.images.formats.listing import class_names, image_files

TORCHVISION_FOLDERS = {
    "MNIST": Path("MNIST", "raw"),
    "FashionMNIST": Path("FashionMNIST", "raw"),
    "CIFAR10": Path("cifar-10-batches-py"),
    "CIFAR100": Path("cifar-100-python"),
    "SVHN": Path("svhn"),
}
"""Folder of each set below torchvision's ``root``."""
TORCHVISION_NAMES = {name.lower(): name for name in TORCHVISION_FOLDERS}
LIBRARY_ROWS = {
    "digits": {"train": 1297, "test": 500},
    "MNIST": {"train": 60_000, "test": 10_000},
    "FashionMNIST": {"train": 60_000, "test": 10_000},
    "CIFAR10": {"train": 50_000, "test": 10_000},
    "CIFAR100": {"train": 50_000, "test": 10_000},
    "SVHN": {"train": 73_257, "test": 26_032},
}
"""Number of images in each split of the sets that come from a library."""


class FileSource(Settings):
    """Images in files; ``digest`` identifies them, ``location`` is where they are now."""

    format: Annotated[str, Named(FORMATS)]
    digest: str = Field(pattern=DIGEST_PATTERN)
    location: tuple[str, ...]

    def phrase(self, split: str) -> str:
        return f"{self.format} files with the digest {self.digest}"


class TorchvisionLocation(Settings):
    """Torchvision's root folder, if missing files are downloaded, and the mirrors to try first."""

    folder: str
    download: bool
    mirrors: tuple[str, ...] = ()


class TorchvisionSource(Settings):
    """A data set that torchvision checks by MD5 sums, so that its name identifies it."""

    format: Annotated[Literal["torchvision"], Named(FORMATS)] = "torchvision"
    name: Annotated[str, Named(TORCHVISION_SETS)]
    location: TorchvisionLocation

    def phrase(self, split: str) -> str:
        return f"torchvision's {self.name}, {split}"


class DigitsSource(Settings):
    """scikit-learn's 1,797 digits, part of that package."""

    format: Annotated[Literal["digits"], Named(FORMATS)] = "digits"

    def phrase(self, split: str) -> str:
        return f"scikit-learn's digits, {split}"


RealSource = FileSource | TorchvisionSource | DigitsSource


def real_source(text: str, *, name: str, split: str, mirrors: tuple[str, ...] = ()) -> RealSource:
    """Return the source of the split ``train`` or ``test`` of the real images.

    ``text``, ``name`` and ``mirrors`` are ``data.source``, ``data.name`` and ``data.mirrors``.

    Raises:
        UserError: if a file is missing, with the key and a hint where to get the file.
    """
    form, _, path = text.partition(":")
    if form == "digits":
        return DigitsSource()
    if form == "torchvision":
        return _torchvision_source(path, name=name, mirrors=mirrors)
    files, setting = FORMATS[form].files(Path(path), split), f"data.source = {text}"
    if form == "imagefolder":
        _require_same_classes(files[0], setting)
    return _file_source(form, files, setting=setting)


def synthetic_source(text: str, *, setting: str = "synthetic.source") -> FileSource:
    """Return the source of generated images that the key ``setting`` names. Raises UserError if a file is missing."""
    form, _, path = text.partition(":")
    files = numbered_files(Path(path)) if "*" in path else [Path(path)]
    if form == "imagefolder" and len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise UserError(f"{setting} = {text} matches {len(files)} folders ({names}), but should match one; use a union")
    return _file_source(form, files, setting=f"{setting} = {text}")


def planned_files(source: FileSource) -> list[Path]:
    """Return the files of a source. Raises UserError if one no longer exists."""
    files = [Path(file) for file in source.location]
    for file in files:
        if not file.exists():
            raise UserError(f"{file} existed when the plan was made and is gone now; restore it or plan again")
    return files


def require_unchanged(source: FileSource, *, stop: Event | None = None) -> None:
    """Read the files again and raise UserError if one is missing or changed; stops early once ``stop`` is set."""
    files = planned_files(source)
    digests = (_content_digest(file, stop) if file.is_dir() else digest(file, stop=stop) for file in files)
    if hash_lines(digests) != source.digest and not (stop and stop.is_set()):
        names = ", ".join(source.location)
        raise UserError(f"{names}: the content changed since the plan was made; restore it or plan again")


@cache
def planned_rows(source: RealSource, split: str) -> int | None:
    """Return the number of images in a split, according to the headers of its files.

    None if a header cannot be read (ingestion reports the error), and for tar files, which state no number.
    """
    if not isinstance(source, FileSource):
        return LIBRARY_ROWS[source.name if isinstance(source, TorchvisionSource) else source.format][split]
    try:
        return FORMATS[source.format].count([Path(file) for file in source.location])
    except Exception:  # a damaged file can fail in any way
        return None


def _torchvision_source(path: str, *, name: str, mirrors: tuple[str, ...]) -> TorchvisionSource:
    if name not in TORCHVISION_NAMES:
        known = ", ".join(TORCHVISION_NAMES)
        raise UserError(f"data.name = {name!r} is not available from data.source = torchvision; use one of {known}")
    dataset = TORCHVISION_NAMES[name]
    folder = Path(path) / TORCHVISION_FOLDERS[dataset]
    if path and not folder.is_dir():
        hint = FORMATS.facts("torchvision")["hint"]
        raise UserError(f"data.source = torchvision:{path}: there is no folder {folder}; {hint}")
    root = str(Path(path or "data").absolute())
    location = TorchvisionLocation(folder=root, download=not path, mirrors=mirrors)
    return TorchvisionSource(name=dataset, location=location)


def _require_same_classes(folder: Path, setting: str) -> None:
    """Raise UserError if the splits have different classes, which would shift the labels."""
    train = folder.with_name("train")
    if folder.is_dir() and train.is_dir() and (other := set(class_names(folder)) ^ set(class_names(train))):
        raise UserError(f"{setting}: {', '.join(sorted(other)[:5])} should be a class of both {train} and {folder}")


def _file_source(form: str, files: list[Path], *, setting: str) -> FileSource:
    for file in files:
        if not (file.is_dir() if form == "imagefolder" else file.is_file()):
            kind = "folder" if form == "imagefolder" else "file"
            raise UserError(f"{setting}: there is no {kind} {file}; {FORMATS.facts(form)['hint']}")
    location = tuple(str(file.absolute()) for file in files)
    joint = hash_lines(_folder_digest(file) if file.is_dir() else file_digest(file) for file in files)
    return FileSource.model_validate({"format": form, "digest": joint, "location": location})


def _folder_digest(folder: Path) -> str:
    """Return the SHA-256 of the paths and digests of the images in an image folder, cached like ``file_digest``."""
    states = hash_lines(f"{file.path}|{file_state(folder / file.path)}" for file in image_files(folder))
    return cached_digest(f"{folder.absolute()}|{states}", lambda: _content_digest(folder))


def _content_digest(folder: Path, stop: Event | None = None) -> str:
    return hash_lines(f"{file.path} {digest(folder / file.path, stop=stop)}" for file in image_files(folder))
