"""MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100 and SVHN in torchvision's folders, downloaded if requested.

A stage's id contains the name of the data set only, so every file must have the MD5 known for that name.
"""

import fcntl
import gzip
import hashlib
import tarfile
import zlib
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, SVHN, FashionMNIST

from robustprune.core.errors import UserError
from robustprune.images.formats.download import fetch
from robustprune.images.formats.finding import idx_files
from robustprune.images.formats.idx import stream_files
from robustprune.images.formats.stream import ImageStream
from robustprune.images.ingested import IngestedPoolStage
from robustprune.images.pool import AnyLabels, Images
from robustprune.images.sources import TORCHVISION_FOLDERS
from robustprune.images.specs import TorchvisionSource
from robustprune.images.writing import in_blocks

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
MNIST_MD5 = {  # of the unpacked files: torchvision knows the MD5 of the published .gz files only
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def open_stream(spec: IngestedPoolStage) -> ImageStream:
    """Return the images of one split.

    Raises:
        UserError: if the download fails, or a file is missing or has another MD5.
    """
    source = spec.source
    assert isinstance(source, TorchvisionSource)
    root = Path(source.location.folder)
    if source.location.download:
        _download(source.name, root, source.location.mirrors)
    folder = root / TORCHVISION_FOLDERS[source.name]
    if source.name in IDX_SETS:
        images, labels = (_verified(source.name, path) for path in idx_files(folder, spec.split))
        return stream_files(images, labels, spec.image_shape)
    pixels, numbers = _svhn(folder, spec.split) if source.name == "SVHN" else _cifar(source.name, folder, spec.split)
    return ImageStream(len(pixels), in_blocks(pixels, numbers))


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
    _require_md5(archive, CIFAR_SETS[name].tgz_md5, name)  # it may not come from this download
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(exist_ok=True)
    with tarfile.open(archive) as content:
        for file in _cifar_md5(name):
            member = content.extractfile(f"{folder.name}/{file}")
            assert member is not None  # the archive's MD5 is known
            (partial / file).write_bytes(member.read())
    partial.rename(folder)
    archive.unlink()


def _verified(name: str, path: Path) -> Path:
    """Return the file to read after verifying its MD5: of the unpacked file for MNIST, of the .gz for Fashion-MNIST."""
    stem = path.name.removesuffix(".gz")
    if name == "MNIST":
        _require_md5(path, MNIST_MD5[stem], name, unpacked=path.suffix == ".gz")
        return path
    published = path.with_name(f"{stem}.gz")
    _require_md5(published, dict(FashionMNIST.resources)[published.name], name)
    return published


def _cifar_md5(name: str) -> dict[str, str]:
    dataset = CIFAR_SETS[name]
    known = (*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"]))
    return {file: md5 for file, md5 in known}  # noqa: C416 - lists of two, which dict() is not typed for


def _cifar(name: str, folder: Path, split: str) -> tuple[Images, AnyLabels]:
    """Read CIFAR with torchvision after verifying the MD5 of all files, since they are pickles."""
    for file, md5 in _cifar_md5(name).items():
        _require_md5(folder / file, md5, name)
    dataset = CIFAR_SETS[name](folder.parent, train=split == "train")
    return dataset.data.transpose(0, 3, 1, 2), np.asarray(dataset.targets)


def _svhn(folder: Path, split: str) -> tuple[Images, AnyLabels]:
    """Read SVHN with torchvision, which maps label 10 (the digit zero) to 0."""
    _, file, md5 = SVHN.split_list[split]
    _require_md5(folder / file, md5, "SVHN")
    dataset = SVHN(folder, split=split)
    return dataset.data, np.asarray(dataset.labels)


def _require_md5(path: Path, expected: str, name: str, *, unpacked: bool = False) -> None:
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
