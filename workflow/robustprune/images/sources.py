"""Sources of images, scores and checkpoints: located and fingerprinted while the plan is made."""

import gzip
import hashlib
import json
import struct
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Event
from typing import Literal, get_args

from robustprune.core.errors import UserError
from robustprune.core.files import digest, sha256, write_text
from robustprune.images.classes.listing import folder_fingerprint, synset_entries
from robustprune.images.classes.specs import HierarchyFile, SynsetFolder
from robustprune.images.formats.finding import SPLIT_FILES, numbered_files
from robustprune.images.formats.listing import class_names, image_files
from robustprune.images.settings import HierarchySettings
from robustprune.images.specs import DigitsSource, FileSource, TorchvisionLocation, TorchvisionName, TorchvisionSource
from robustprune.networks.settings import CheckpointSettings
from robustprune.scores.embedding import FileEncoder, TorchvisionEncoder
from robustprune.scores.settings import EmbeddingSettings, ImportedScores, ScoreFormat

HIERARCHY_NAME = "wordnet.is_a.txt"
DIGEST_CACHE = Path("results/.known_digests.json")
DigestKind = Literal["blake3", "sha256"]
TORCHVISION_NAMES: dict[str, TorchvisionName] = {
    "mnist": "MNIST",
    "fashionmnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
}
TORCHVISION_FOLDERS = {
    "MNIST": Path("MNIST", "raw"),
    "FashionMNIST": Path("FashionMNIST", "raw"),
    "CIFAR10": Path("cifar-10-batches-py"),
    "CIFAR100": Path("cifar-100-python"),
    "SVHN": Path("svhn"),
}
"""Folder of each set below torchvision's ``root``."""
LIBRARY_ROWS = {
    "digits": {"train": 1297, "test": 500},
    "MNIST": {"train": 60_000, "test": 10_000},
    "FashionMNIST": {"train": 60_000, "test": 10_000},
    "CIFAR10": {"train": 50_000, "test": 10_000},
    "CIFAR100": {"train": 50_000, "test": 10_000},
    "SVHN": {"train": 73_257, "test": 26_032},
}
"""Number of images in each split of the sets that come from a library."""
HINTS = {
    "idx": "the four idx files of MNIST, plain or .gz, are at https://ossci-datasets.s3.amazonaws.com/mnist/",
    "npz": "an npz holds the arrays 'image' (uint8, N x H x W x C) and 'label'; Wang et al.'s EDM sets are at "
    "https://huggingface.co/datasets/P2333/DM-Improves-AT",
    "parquet": "Hugging Face stores image sets in this layout, e.g. https://huggingface.co/datasets/uoft-cs/cifar10",
    "imagenet21k": "a folder or .tar archive for each synset, such as n02084071.tar, and wordnet.is_a.txt are at "
    "https://image-net.org",
    "imagefolder": "an image folder has one sub-folder of images (png, jpg, webp, ...) per class",
    "webdataset": "tar files are named train-000000.tar and so on, with members such as 0001.jpg and 0001.cls",
    "torchvision": "set data.source to torchvision, without a folder, to download it",
}


def real_source(
    text: str, *, name: str, split: str, mirrors: tuple[str, ...] = ()
) -> DigitsSource | TorchvisionSource | FileSource:
    """Return the source of one split of the real images.

    Args:
        text: ``data.source``, already validated.
        name: ``data.name``.
        split: ``train`` or ``test``.
        mirrors: ``data.mirrors``.

    Raises:
        UserError: if a file is missing, with the key and a hint where to get the file.
    """
    form, _, path = text.partition(":")
    if form == "digits":
        return DigitsSource()
    if form == "torchvision":
        return _torchvision_source(path, name=name, mirrors=mirrors)
    files, setting = SPLIT_FILES[form](Path(path), split), f"data.source = {text}"
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


def encoder_source(settings: EmbeddingSettings, *, role: str) -> TorchvisionEncoder | FileEncoder:
    """Return the encoder of ``extrapolation.embedding.source``, if it is not a model of this workflow.

    Args:
        settings: settings of the embedding.
        role: role of the embedded pool: ``train``, ``synthetic`` or ``source``.

    Raises:
        UserError: if a file is missing.
    """
    form, _, value = settings.source.partition(":")
    name, _, weights = value.partition(":")
    path = Path(value, f"{role}.npy") if form == "file" else Path(weights)
    if not path.is_file():
        hint = "an npy file with one row per image" if form == "file" else "weights are not downloaded"
        raise UserError(f"extrapolation.embedding.source = {settings.source}: there is no file {path}; {hint}")
    location = str(path.absolute())
    if form == "file":
        return FileEncoder(digest=file_digest(path), location=location)
    return TorchvisionEncoder(name=name, digest=file_digest(path), resize=settings.resize, location=location)


def imported_scores(name: str, settings: ImportedScores, role: str) -> dict[str, str]:
    """Return the format, digest and location of the file with the scores of the real or the generated images.

    Raises:
        UserError: if the key is missing, the file is missing, or its suffix is not a known format.
    """
    key, location = f"imported.{name}.{role}", getattr(settings, role)
    if location is None:
        raise UserError(f"{key} is missing, but a row prunes {role} images by these scores; set it to a file")
    path, form = Path(location), Path(location).suffix.removeprefix(".")
    if form not in get_args(ScoreFormat):
        raise UserError(f"{key} = {location} should end in .{', .'.join(get_args(ScoreFormat))}")
    file = path / "zarr.json" if form == "zarr" else path
    if not file.is_file():
        raise UserError(f"{key} = {location}: there is no file {file}")
    return {"format": form, "digest": file_digest(file), "location": str(path.absolute())}


def checkpoint_file(name: str, checkpoint: CheckpointSettings) -> str:
    """Return the absolute path of a checkpoint. Raises UserError if it is missing or has another SHA-256."""
    path = Path(checkpoint.path)
    if not path.is_file():
        raise UserError(f"checkpoints.{name}.path = {checkpoint.path}: there is no such file")
    actual = file_digest(path, "sha256")
    if actual != checkpoint.sha256:
        raise UserError(
            f"checkpoints.{name}.sha256 = {checkpoint.sha256} is not that of {checkpoint.path}, which is {actual}"
        )
    return str(path.absolute())


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
    if _hash_lines(digests) != source.digest and not (stop and stop.is_set()):
        names = ", ".join(source.location)
        raise UserError(f"{names}: the content changed since the plan was made; restore it or plan again")


@cache
def planned_rows(source: FileSource | TorchvisionSource | DigitsSource, split: str) -> int | None:
    """Return the number of images in a split, according to the headers of its files.

    None if a header cannot be read (ingestion reports the error), and for tar files, which state no number.
    """
    if not isinstance(source, FileSource):
        return LIBRARY_ROWS[source.name if isinstance(source, TorchvisionSource) else source.format][split]
    try:
        count = HEADERS.get(source.format)
        return None if count is None else count([Path(file) for file in source.location])
    except Exception:  # a damaged file can fail in any way
        return None


def _idx_rows(files: list[Path]) -> int:
    with gzip.open(files[0]) if files[0].suffix == ".gz" else files[0].open("rb") as file:
        return int(struct.unpack(">ii", file.read(8))[1])  # magic number, number of images


def _npz_rows(files: list[Path]) -> int:
    from robustprune.core.npy import open_array, read_header  # imports numpy, which most plans do not need

    count = 0
    for file in files:
        with zipfile.ZipFile(file) as archive, open_array(archive, "label.npy") as member:
            count += read_header(member).shape[0]
    return count


def _parquet_rows(files: list[Path]) -> int:
    import pyarrow.parquet as pq  # imports numpy, which most plans do not need

    return sum(pq.read_metadata(file).num_rows for file in files)


HEADERS: dict[str, Callable[[list[Path]], int]] = {
    "idx": _idx_rows,
    "npz": _npz_rows,
    "parquet": _parquet_rows,
    "imagefolder": lambda files: len(image_files(files[0])),
}
"""Function of each source format that counts the images in the files of a split."""


def _torchvision_source(path: str, *, name: str, mirrors: tuple[str, ...]) -> TorchvisionSource:
    if name not in TORCHVISION_NAMES:
        known = ", ".join(TORCHVISION_NAMES)
        raise UserError(f"data.name = {name!r} is not available from data.source = torchvision; use one of {known}")
    dataset = TORCHVISION_NAMES[name]
    folder = Path(path) / TORCHVISION_FOLDERS[dataset]
    if path and not folder.is_dir():
        raise UserError(f"data.source = torchvision:{path}: there is no folder {folder}; {HINTS['torchvision']}")
    root = str(Path(path or "data").absolute())
    return TorchvisionSource(
        name=dataset, location=TorchvisionLocation(folder=root, download=not path, mirrors=mirrors)
    )


def _require_same_classes(folder: Path, setting: str) -> None:
    """Raise UserError if the splits have different classes, which would shift the labels."""
    train = folder.with_name("train")
    if folder.is_dir() and train.is_dir() and (other := set(class_names(folder)) ^ set(class_names(train))):
        raise UserError(f"{setting}: {', '.join(sorted(other)[:5])} should be a class of both {train} and {folder}")


def _file_source(form: str, files: list[Path], *, setting: str) -> FileSource:
    for file in files:
        if not (file.is_dir() if form == "imagefolder" else file.is_file()):
            kind = "folder" if form == "imagefolder" else "file"
            raise UserError(f"{setting}: there is no {kind} {file}; {HINTS[form]}")
    location = tuple(str(file.absolute()) for file in files)
    joint = _hash_lines(folder_digest(file) if file.is_dir() else file_digest(file) for file in files)
    return FileSource.model_validate({"format": form, "digest": joint, "location": location})


def synset_folder(location: str, *, setting: str) -> SynsetFolder:
    """Return a folder of synsets, fingerprinted by the names and sizes of its files. Raises UserError if invalid."""
    folder = Path(location)
    try:
        entries = synset_entries(folder)
    except UserError as error:
        raise UserError(f"{setting}: {error}; {HINTS['imagenet21k']}") from None
    states = _hash_lines(f"{path.absolute()}|{_state(path)}" for path in entries.values())
    fingerprint = remembered(f"{folder.absolute()}|{states}", lambda: folder_fingerprint(entries))
    return SynsetFolder(digest=fingerprint, location=str(folder.absolute()))


def hierarchy_file(location: str, settings: HierarchySettings) -> HierarchyFile:
    """Return ``data.hierarchy.file``, or the file in the folder ``location``. Raises UserError if it is missing."""
    path = Path(settings.file) if settings.file is not None else Path(location, HIERARCHY_NAME)
    if not path.is_file():
        raise UserError(f"data.hierarchy.file: there is no file {path}; {HINTS['imagenet21k']}")
    return HierarchyFile(digest=file_digest(path), location=str(path.absolute()))


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 of the paths and digests of the images in an image folder, cached like ``file_digest``."""
    states = _hash_lines(f"{file.path}|{_state(folder / file.path)}" for file in image_files(folder))
    return remembered(f"{folder.absolute()}|{states}", lambda: _content_digest(folder))


def _content_digest(folder: Path, stop: Event | None = None) -> str:
    return _hash_lines(f"{file.path} {digest(folder / file.path, stop=stop)}" for file in image_files(folder))


def _hash_lines(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def file_digest(path: Path, kind: DigestKind = "blake3") -> str:
    """Return the digest of a file in hex, cached by path, size, times and inode to keep planning fast."""
    return _remembered_of_file(str(path.absolute()), _state(path), kind)


def _state(path: Path) -> str:
    """Return a text that changes if a file is written or replaced, even with the same size and modification time."""
    status = path.stat()
    return f"{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"


@cache
def _remembered_of_file(path: str, state: str, kind: DigestKind) -> str:
    compute = digest if kind == "blake3" else sha256
    return remembered(f"{path}|{state}|{kind}", lambda: compute(Path(path)))


def remembered(key: str, compute: Callable[[], str]) -> str:
    """Return a digest from the cache on disk; compute and store it if it is not there."""
    known = _read_digest_cache()
    if key not in known:
        known[key] = compute()
        with suppress(OSError):  # the cache is optional: the folder may be read-only
            write_text(DIGEST_CACHE, json.dumps(known))
    return known[key]


def _read_digest_cache() -> dict[str, str]:
    try:
        known = json.loads(DIGEST_CACHE.read_text())
    except (FileNotFoundError, ValueError):  # absent or damaged
        return {}
    return known if isinstance(known, dict) else {}
