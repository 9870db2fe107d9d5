"""From ``data.source`` in the configuration to what the images are: found and fingerprinted while the plan is made."""

import gzip
import hashlib
import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Event
from typing import Literal, get_args

from robustprune.classes.listing import folder_fingerprint, synset_entries
from robustprune.errors import UserError
from robustprune.files import digest, sha256, write_text
from robustprune.pools.ingest.finding import SPLIT_FILES, numbered_files
from robustprune.pools.ingest.listing import class_names, image_files
from robustprune.settings import CheckpointSettings, EmbeddingSettings, HierarchySettings, ImportedScores, ScoreFormat
from robustprune.specs import (
    DigitsSource,
    FileEncoder,
    FileSource,
    HierarchyFile,
    SynsetFolder,
    TorchvisionEncoder,
    TorchvisionLocation,
    TorchvisionSource,
)
from robustprune.specs.pools import TorchvisionName

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
"""Where torchvision, or for SVHN its usual call, puts each set."""
LIBRARY_ROWS = {
    "digits": {"train": 1297, "test": 500},
    "MNIST": {"train": 60_000, "test": 10_000},
    "FashionMNIST": {"train": 60_000, "test": 10_000},
    "CIFAR10": {"train": 50_000, "test": 10_000},
    "CIFAR100": {"train": 50_000, "test": 10_000},
    "SVHN": {"train": 73_257, "test": 26_032},
}
"""Images of each split of the sets that come from a library."""
HINTS = {
    "idx": "the four idx files of MNIST, plain or .gz, can be had from https://ossci-datasets.s3.amazonaws.com/mnist/",
    "npz": "an npz holds the arrays 'image' (uint8, N x H x W x C) and 'label'; Wang et al.'s EDM sets are at "
    "https://huggingface.co/datasets/P2333/DM-Improves-AT",
    "parquet": "Hugging Face keeps image sets in this layout, e.g. https://huggingface.co/datasets/uoft-cs/cifar10",
    "imagenet21k": "a folder or .tar archive for each synset, such as n02084071.tar, and wordnet.is_a.txt come from "
    "https://image-net.org",
    "imagefolder": "an image folder has a sub-folder for each class with its pictures (png, jpg, webp, ...)",
    "webdataset": "tar files hold members such as 0001.jpg and 0001.cls, and are called train-000000.tar and so on",
    "torchvision": "data.source: torchvision, without a folder, downloads it",
}


def real_source(
    text: str, *, name: str, split: str, mirrors: tuple[str, ...] = ()
) -> DigitsSource | TorchvisionSource | FileSource:
    """The source of one split of the real images.

    Args:
        text: ``data.source`` of the configuration, of the form the configuration allows.
        name: ``data.name`` of the configuration.
        split: ``train`` or ``test``.
        mirrors: ``data.mirrors`` of the configuration.

    Raises:
        UserError: naming the key, and where to get a file that is missing.
    """
    form, _, place = text.partition(":")
    if form == "digits":
        return DigitsSource()
    if form == "torchvision":
        return _torchvision_source(place, name=name, mirrors=mirrors)
    files, setting = SPLIT_FILES[form](Path(place), split), f"data.source = {text}"
    if form == "imagefolder":
        _require_same_classes(files[0], setting)
    return _file_source(form, files, setting=setting)


def synthetic_source(text: str, *, setting: str = "synthetic.source") -> FileSource:
    """The source that the key ``setting`` names when it is a file. Raises UserError where it is missing."""
    form, _, place = text.partition(":")
    files = numbered_files(Path(place)) if "*" in place else [Path(place)]
    if form == "imagefolder" and len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise UserError(f"{setting} = {text} is {len(files)} folders ({names}), but should be one; unions join several")
    return _file_source(form, files, setting=f"{setting} = {text}")


def encoder_source(settings: EmbeddingSettings, *, role: str) -> TorchvisionEncoder | FileEncoder:
    """What ``extrapolation.embedding.source`` names when it is not a model of ours.

    Args:
        settings: of the embedding.
        role: of the pool that is embedded: ``train``, ``synthetic`` or ``source``.

    Raises:
        UserError: where a file is missing.
    """
    form, _, place = settings.source.partition(":")
    name, _, weights = place.partition(":")
    path = Path(place, f"{role}.npy") if form == "file" else Path(weights)
    if not path.is_file():
        hint = "an npy file with one row an image" if form == "file" else "weights are not downloaded"
        raise UserError(f"extrapolation.embedding.source = {settings.source}: there is no file {path}; {hint}")
    location = str(path.absolute())
    if form == "file":
        return FileEncoder(digest=file_digest(path), location=location)
    return TorchvisionEncoder(name=name, digest=file_digest(path), resize=settings.resize, location=location)


def imported_scores(name: str, settings: ImportedScores, role: str) -> dict[str, str]:
    """The format, digest and location of the file with the scores of the real or of the generated images.

    Raises:
        UserError: where none is named, it is missing, or its name does not say what it is.
    """
    key, place = f"imported.{name}.{role}", getattr(settings, role)
    if place is None:
        raise UserError(f"{key} is missing: a row learns from generated images, too, and prunes them by these scores")
    path, form = Path(place), Path(place).suffix.removeprefix(".")
    if form not in get_args(ScoreFormat):
        raise UserError(f"{key} = {place} should end in .{', .'.join(get_args(ScoreFormat))}")
    file = path / "zarr.json" if form == "zarr" else path
    if not file.is_file():
        raise UserError(f"{key} = {place}: there is no file {file}")
    return {"format": form, "digest": file_digest(file), "location": str(path.absolute())}


def checkpoint_file(name: str, checkpoint: CheckpointSettings) -> str:
    """Where a checkpoint lies.

    Raises:
        UserError: when it is missing, or another file than its SHA-256 says.
    """
    path = Path(checkpoint.path)
    if not path.is_file():
        raise UserError(f"checkpoints.{name}.path = {checkpoint.path}: there is no such file")
    found = _of_file(path, "sha256")
    if found != checkpoint.sha256:
        raise UserError(
            f"checkpoints.{name}.sha256 = {checkpoint.sha256} is not that of {checkpoint.path}, which is {found}"
        )
    return str(path.absolute())


def planned_files(source: FileSource) -> list[Path]:
    """The files of a source. Raises UserError when one is gone since the plan was made."""
    files = [Path(file) for file in source.location]
    for file in files:
        if not file.exists():
            raise UserError(f"{file} was there when the plan was made and is gone now; bring it back or plan again")
    return files


def require_unchanged(source: FileSource, *, stop: Event | None = None) -> None:
    """Read the files once more to be sure that they are what the plan was made for; gives up once ``stop`` is set.

    Raises:
        UserError: when a file is gone or another than at the time of the plan.
    """
    files = planned_files(source)
    found = (_content_digest(file, stop) if file.is_dir() else digest(file, stop=stop) for file in files)
    if _joint_digest(found) != source.digest and not (stop and stop.is_set()):
        names = ", ".join(source.location)
        raise UserError(f"{names}: the content changed since the plan was made; bring it back or plan again")


@cache
def planned_rows(source: FileSource | TorchvisionSource | DigitsSource, split: str) -> int | None:
    """The number of images that a source holds of a split, as its files' headers say.

    None where a header cannot be read, and ingesting says why; and for tar files, which have none.
    """
    if isinstance(source, DigitsSource):
        return LIBRARY_ROWS[source.format][split]
    if isinstance(source, TorchvisionSource):
        return LIBRARY_ROWS[source.name][split]
    try:
        count = HEADERS.get(source.format)
        return None if count is None else count([Path(file) for file in source.location])
    except Exception:  # a damaged file can fail in any way
        return None


def _idx_rows(files: list[Path]) -> int:
    """Of images and labels: a number that says what follows, then the number of items."""
    with gzip.open(files[0]) if files[0].suffix == ".gz" else files[0].open("rb") as file:
        return int(struct.unpack(">ii", file.read(8))[1])


def _npz_rows(files: list[Path]) -> int:
    from robustprune.npy import open_array, read_header  # here, as it brings numpy: most plans read no npz

    count = 0
    for file in files:
        with zipfile.ZipFile(file) as archive, open_array(archive, "label.npy") as member:
            count += read_header(member).shape[0]
    return count


def _parquet_rows(files: list[Path]) -> int:
    import pyarrow.parquet as pq  # here for the same reason; it brings numpy

    return sum(pq.read_metadata(file).num_rows for file in files)


def _imagefolder_rows(files: list[Path]) -> int:
    return len(image_files(files[0]))


HEADERS: dict[str, Callable[[list[Path]], int]] = {
    "idx": _idx_rows,
    "npz": _npz_rows,
    "parquet": _parquet_rows,
    "imagefolder": _imagefolder_rows,
}


def _torchvision_source(place: str, *, name: str, mirrors: tuple[str, ...]) -> TorchvisionSource:
    if name not in TORCHVISION_NAMES:
        known = ", ".join(TORCHVISION_NAMES)
        raise UserError(f"data.name = {name!r} is not one that data.source = torchvision can load: {known}")
    dataset = TORCHVISION_NAMES[name]
    inside = Path(place) / TORCHVISION_FOLDERS[dataset]
    if place and not inside.is_dir():
        raise UserError(f"data.source = torchvision:{place}: there is no folder {inside}; {HINTS['torchvision']}")
    folder = str(Path(place or "data").absolute())
    location = TorchvisionLocation(folder=folder, download=not place, mirrors=mirrors)
    return TorchvisionSource(name=dataset, location=location)


def _require_same_classes(folder: Path, setting: str) -> None:
    """A class that is missing in one split would give all that follow another label."""
    train = folder.with_name("train")
    if folder.is_dir() and train.is_dir() and (other := set(class_names(folder)) ^ set(class_names(train))):
        raise UserError(f"{setting}: {', '.join(sorted(other)[:5])} should be a class of both {train} and {folder}")


def _file_source(form: str, files: list[Path], *, setting: str) -> FileSource:
    for file in files:
        if not (file.is_dir() if form == "imagefolder" else file.is_file()):
            kind = "folder" if form == "imagefolder" else "file"
            raise UserError(f"{setting}: there is no {kind} {file}; {HINTS[form]}")
    location = tuple(str(file.absolute()) for file in files)
    joint = _joint_digest(folder_digest(file) if file.is_dir() else file_digest(file) for file in files)
    return FileSource.model_validate({"format": form, "digest": joint, "location": location})


def _joint_digest(digests: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """BLAKE3 of a file, in hex; remembered by path, size, times and inode so that a plan stays fast."""
    return _of_file(path, "blake3")


def _of_file(path: Path, kind: DigestKind) -> str:
    return _remembered_of_file(str(path.absolute()), _state(path.stat()), kind)


def _state(status: os.stat_result) -> str:
    """What differs once a file was written or replaced, even where its size and modification time were kept."""
    return f"{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"


def synset_folder(place: str, *, setting: str) -> SynsetFolder:
    """A folder with images of synsets, known by the names and sizes of its files.

    Raises:
        UserError: when it is none.
    """
    folder = Path(place)
    try:
        entries = synset_entries(folder)
    except UserError as error:
        raise UserError(f"{setting}: {error}; {HINTS['imagenet21k']}") from None
    states = [(path, path.stat()) for path in entries.values()]
    key = "\n".join(f"{path.absolute()}|{_state(state)}" for path, state in states)
    key = f"{folder.absolute()}|{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()}"
    return SynsetFolder(digest=remembered(key, lambda: folder_fingerprint(entries)), location=str(folder.absolute()))


def hierarchy_file(place: str, settings: HierarchySettings) -> HierarchyFile:
    """The hierarchy of the synsets of a folder: the file that is named, or the folder's own. Raises UserError."""
    path = Path(settings.file) if settings.file is not None else Path(place, HIERARCHY_NAME)
    if not path.is_file():
        raise UserError(f"data.hierarchy.file: there is no file {path}; {HINTS['imagenet21k']}")
    return HierarchyFile(digest=file_digest(path), location=str(path.absolute()))


def folder_digest(folder: Path) -> str:
    """SHA-256 of the paths and digests of the pictures in an image folder; remembered as that of a file is."""
    states = ((file.path, (folder / file.path).stat()) for file in image_files(folder))
    lines = [f"{path}|{_state(status)}" for path, status in states]
    state = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return remembered(f"{folder.absolute()}|{state}", lambda: _content_digest(folder))


def _content_digest(folder: Path, stop: Event | None = None) -> str:
    lines = [f"{file.path} {digest(folder / file.path, stop=stop)}" for file in image_files(folder)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@cache
def _remembered_of_file(path: str, state: str, kind: DigestKind) -> str:
    compute = digest if kind == "blake3" else sha256
    return remembered(f"{path}|{state}|{kind}", lambda: compute(Path(path)))


def remembered(key: str, compute: Callable[[], str]) -> str:
    """A digest that an earlier plan computed, or ``compute`` does now."""
    known = _read_digest_cache()
    if key not in known:
        known[key] = compute()
        with suppress(OSError):  # a memory, and no more: results may be read-only
            write_text(DIGEST_CACHE, json.dumps(known))
    return known[key]


def _read_digest_cache() -> dict[str, str]:
    """What earlier plans remembered; nothing where the file is absent or damaged, for it can be made again."""
    try:
        known = json.loads(DIGEST_CACHE.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
