"""MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100 and SVHN in torchvision's folders, downloaded if requested.

A stage's id contains the name of the data set only, so every file must have the MD5 known for that name.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import tarfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, SVHN, FashionMNIST

from robustprune.core.errors import UserError
from robustprune.images.formats.data_format import TORCHVISION_SETS, DataFormat, data_format, torchvision_set
from robustprune.images.formats.download import fetch
from robustprune.images.formats.stream import ImageStream, in_blocks
from robustprune.images.sources import TORCHVISION_FOLDERS, TorchvisionSource

if TYPE_CHECKING:
    from robustprune.images.ingested import IngestedPoolStage

DEFINITION = {"pools.ingest.torchvision": 1}
IDX_SETS = {"MNIST": MNIST, "FashionMNIST": FashionMNIST}
CIFAR_SETS = {"CIFAR10": CIFAR10, "CIFAR100": CIFAR100}
CIFAR_FOLDER_URLS = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
FOLDER_URLS = {
    "MNIST": (*MNIST.mirrors, "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    "FashionMNIST": (
        *FashionMNIST.mirrors,
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    "CIFAR10": CIFAR_FOLDER_URLS,
    "CIFAR100": CIFAR_FOLDER_URLS,
    "SVHN": ("http://ufldl.stanford.edu/housenumbers/",),
}
"""URLs of the folders with each set's files, in the order in which they are tried."""


def _files(name: str) -> dict[str, str]:
    """Return the MD5 of each file to download."""
    if name in IDX_SETS:
        return dict(IDX_SETS[name].resources)
    if name in CIFAR_SETS:
        return {CIFAR_SETS[name].filename: CIFAR_SETS[name].tgz_md5}
    return {file: md5 for split, (_, file, md5) in SVHN.split_list.items() if split in ("train", "test")}


def _download(name: str, root: Path, mirrors: tuple[str, ...]) -> None:
    """Download the data set to ``root`` unless it exists; a lock keeps other jobs from downloading it as well."""
    folder = root / TORCHVISION_FOLDERS[name]
    folder.parent.mkdir(parents=True, exist_ok=True)
    target = root if name in CIFAR_SETS else folder
    with (root / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if name in CIFAR_SETS and folder.is_dir():
            return
        target.mkdir(exist_ok=True)
        for file, md5 in _files(name).items():
            if not (name == "MNIST" and (target / file.removesuffix(".gz")).is_file()):
                _fetch(name, file, md5, target, (*mirrors, *FOLDER_URLS[name]))
        if name in CIFAR_SETS:
            _unpack(root / CIFAR_SETS[name].filename, folder, name)


def _fetch(name: str, file: str, md5: str, target: Path, folder_urls: tuple[str, ...]) -> None:
    try:
        fetch([f"{folder.rstrip('/')}/{file}" for folder in folder_urls], target / file, md5)
    except UserError as error:
        other = "idx" if name in IDX_SETS else "parquet"
        raise UserError(
            f"data.source = torchvision: {name} could not be downloaded ({error}); without a network, put its files "
            f"into a folder and set data.source to torchvision:FOLDER or {other}:FOLDER; data.mirrors adds other URLs"
        ) from None


def _unpack(archive: Path, folder: Path, name: str) -> None:
    """Unpack the set's known files only; the folder appears once it is complete."""
    require_md5(archive, CIFAR_SETS[name].tgz_md5, name)  # it may not come from this download
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(exist_ok=True)
    with tarfile.open(archive) as content:
        for file in _cifar_md5(name):
            member = content.extractfile(f"{folder.name}/{file}")
            assert member is not None  # the archive's MD5 is known
            (partial / file).write_bytes(member.read())
    partial.rename(folder)
    archive.unlink()


def _cifar_md5(name: str) -> dict[str, str]:
    dataset = CIFAR_SETS[name]
    known = (*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"]))
    return {file: md5 for file, md5 in known}  # noqa: C416 - lists of two, which dict() is not typed for


@torchvision_set("CIFAR10")
@torchvision_set("CIFAR100")
def open_cifar(name: str, folder: Path, spec: IngestedPoolStage) -> ImageStream:
    """Read CIFAR with torchvision after verifying the MD5 of all files, since they are pickles."""
    for file, md5 in _cifar_md5(name).items():
        require_md5(folder / file, md5, name)
    dataset = CIFAR_SETS[name](folder.parent, train=spec.split == "train")
    return ImageStream(len(dataset.data), in_blocks(dataset.data.transpose(0, 3, 1, 2), np.asarray(dataset.targets)))


@torchvision_set("SVHN")
def open_svhn(name: str, folder: Path, spec: IngestedPoolStage) -> ImageStream:
    """Read SVHN with torchvision, which maps label 10 (the digit zero) to 0."""
    _, file, md5 = SVHN.split_list[spec.split]
    require_md5(folder / file, md5, name)
    dataset = SVHN(folder, split=spec.split)
    return ImageStream(len(dataset.data), in_blocks(dataset.data, np.asarray(dataset.labels)))


def require_md5(path: Path, expected: str, name: str, *, unpacked: bool = False) -> None:
    """Raise UserError unless a file exists and has this MD5, after unpacking where asked."""
    if not path.is_file():
        raise UserError(
            f"{path}, a file of torchvision's {name}, does not exist; data.source: torchvision downloads the whole set "
            "if there is no folder for it"
        )
    try:
        with gzip.open(path) if unpacked else path.open("rb") as file:
            actual = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is not a whole gzip file: {error}") from None
    if actual != expected:
        raise UserError(f"{path} is not {name}'s: its content has the MD5 {actual}, but should have {expected}")


@data_format(
    "torchvision",
    pictures=False,
    generated=False,
    hint="set data.source to torchvision, without a folder, to download it",
)
class TorchvisionFormat(DataFormat):
    """Data sets in torchvision's folders."""

    def files(self, folder: Path, split: str) -> list[Path]:
        """Return no file: the library knows them."""
        return []

    def open_stream(self, stage: IngestedPoolStage) -> ImageStream:
        """Return the images of one split.

        Raises:
            UserError: if the download fails, or a file is missing or has another MD5.
        """
        source = stage.source
        assert isinstance(source, TorchvisionSource)
        root = Path(source.location.folder)
        if source.location.download:
            _download(source.name, root, source.location.mirrors)
        folder = root / TORCHVISION_FOLDERS[source.name]
        return TORCHVISION_SETS[source.name](source.name, folder, stage)
