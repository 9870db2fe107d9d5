"""MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100 and SVHN in torchvision's folders; downloaded where that is asked for.

The name alone stands in the stage's id, so what is read must have the MD5 sums known for that name.
"""

import fcntl
import gzip
import hashlib
import tarfile
import zlib
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, SVHN, FashionMNIST

from robustprune.errors import UserError
from robustprune.pools.format import AnyLabels, Images
from robustprune.pools.ingest.download import fetch
from robustprune.pools.ingest.finding import idx_files
from robustprune.pools.ingest.idx import stream_files
from robustprune.pools.ingest.stream import ImageStream
from robustprune.pools.writing import in_blocks
from robustprune.sources import TORCHVISION_FOLDERS
from robustprune.specs import IngestedPoolSpec, TorchvisionSource

DEFINITION = 1
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
"""Where the files of each set can be had, in the order they are asked."""
OTHER_SOURCES = {
    "MNIST": "torchvision:FOLDER or idx:FOLDER",
    "FashionMNIST": "torchvision:FOLDER or idx:FOLDER",
    "CIFAR10": "torchvision:FOLDER or parquet:FOLDER",
    "CIFAR100": "torchvision:FOLDER or parquet:FOLDER",
    "SVHN": "torchvision:FOLDER or parquet:FOLDER",
}
MNIST_MD5 = {  # of the unpacked files: torchvision knows the .gz only, and compressing again changes those
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def open_stream(spec: IngestedPoolSpec) -> ImageStream:
    """The images of one split.

    Raises:
        UserError: when the download fails, or naming a file that is missing or not the known one.
    """
    source = spec.source
    assert isinstance(source, TorchvisionSource)
    root = Path(source.location.folder)
    if source.location.download:
        _download(source.name, root, source.location.mirrors)
    folder = root / TORCHVISION_FOLDERS[source.name]
    if source.name in IDX_SETS:
        return _idx_stream(source.name, folder, spec)
    images, labels = _svhn(folder, spec.split) if source.name == "SVHN" else _cifar(source.name, folder, spec.split)
    return ImageStream(len(images), in_blocks(images, labels))


def _files(name: str) -> dict[str, str]:
    """The files that are downloaded, and their MD5."""
    if name in IDX_SETS:
        return dict(IDX_SETS[name].resources)
    if name in CIFAR_SETS:
        return {CIFAR_SETS[name].filename: CIFAR_SETS[name].tgz_md5}
    return {file: md5 for split, (_, file, md5) in SVHN.split_list.items() if split in ("train", "test")}


def _download(name: str, root: Path, mirrors: tuple[str, ...]) -> None:
    """Bring the data set to ``root`` unless it is there or another job brings it."""
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
        raise UserError(
            f"data.source = torchvision: {name} could not be downloaded ({error}); without a network, put its files "
            f"into a folder and set data.source to {OTHER_SOURCES[name]}; data.mirrors names other places to fetch from"
        ) from None


def _unpack(archive: Path, folder: Path, name: str) -> None:
    """The files that the set is known to have, and no others; the folder appears when they are all there."""
    _require_md5(archive, CIFAR_SETS[name].tgz_md5, name)  # it may have been there before
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(exist_ok=True)
    with tarfile.open(archive) as content:
        for file in _cifar_md5(name):
            member = content.extractfile(f"{folder.name}/{file}")
            assert member is not None  # the archive's MD5 is known
            (partial / file).write_bytes(member.read())
    partial.rename(folder)
    archive.unlink()


def _idx_stream(name: str, folder: Path, spec: IngestedPoolSpec) -> ImageStream:
    images, labels = (_checked(name, path) for path in idx_files(folder, spec.split))
    return stream_files(images, labels, spec.image_shape)


def _checked(name: str, path: Path) -> Path:
    """The file to be read, of known content: MNIST's is known unpacked, Fashion-MNIST's as it is published."""
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
    """CIFAR through torchvision; its files are pickles, so none is opened before all have their known MD5."""
    for file, md5 in _cifar_md5(name).items():
        _require_md5(folder / file, md5, name)
    dataset = CIFAR_SETS[name](folder.parent, train=split == "train")
    return dataset.data.transpose(0, 3, 1, 2), np.asarray(dataset.targets)


def _svhn(folder: Path, split: str) -> tuple[Images, AnyLabels]:
    """SVHN through torchvision, which makes the label 10, a nought, a 0."""
    _, file, md5 = SVHN.split_list[split]
    _require_md5(folder / file, md5, "SVHN")
    dataset = SVHN(folder, split=split)
    return dataset.data, np.asarray(dataset.labels)


def _require_md5(path: Path, expected: str, name: str, *, unpacked: bool = False) -> None:
    if not path.is_file():
        raise UserError(
            f"{path}, a file of torchvision's {name}, does not exist; data.source: torchvision downloads the whole set "
            f"where there is no folder for it"
        )
    found = _md5(path, unpacked=unpacked)
    if found != expected:
        raise UserError(f"{path} is not {name}'s: its content has the MD5 {found}, but should have {expected}")


def _md5(path: Path, *, unpacked: bool) -> str:
    """Of a file, or of what is in a gzip file; neither is ever in memory as a whole."""
    try:
        with gzip.open(path) if unpacked else path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is not a whole gzip file: {error}") from None
