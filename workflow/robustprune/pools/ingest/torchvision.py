"""MNIST and CIFAR-10 in torchvision's folders, downloaded by torchvision where that is asked for.

The name alone stands in the stage's id, so what is read must have the MD5 sums known for that name.
"""

import fcntl
import gzip
import hashlib
import http.client
import shutil
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10, MNIST

from robustprune.errors import UserError
from robustprune.pools.format import AnyLabels, Images
from robustprune.pools.ingest.idx import read_images, read_labels
from robustprune.pools.ingest.stream import ImageStream
from robustprune.pools.writing import in_blocks
from robustprune.sources import TORCHVISION_FOLDERS, idx_files
from robustprune.specs import IngestedPoolSpec, TorchvisionSource

DEFINITION = 1
DATASETS = {"MNIST": MNIST, "CIFAR10": CIFAR10}
OTHER_SOURCES = {"MNIST": "torchvision:FOLDER or idx:FOLDER", "CIFAR10": "torchvision:FOLDER or parquet:FOLDER"}
MNIST_MD5 = {  # of the unpacked files: torchvision knows the .gz only, and compressing again changes those
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def open_stream(spec: IngestedPoolSpec) -> ImageStream:
    """The images of ``read``."""
    images, labels = read(spec)
    return ImageStream(len(images), in_blocks(images, labels))


def read(spec: IngestedPoolSpec) -> tuple[Images, AnyLabels]:
    """The images and labels of one split.

    Returns:
        images: (N, 1, 28, 28) or (N, 3, 32, 32) uint8.
        labels: (N,) integers.

    Raises:
        UserError: when the download fails, or naming a file that is missing or not the known one.
    """
    source = spec.source
    assert isinstance(source, TorchvisionSource)
    root = Path(source.location.folder)
    if source.location.download:
        _download(source.name, root)
    folder = root / TORCHVISION_FOLDERS[source.name]
    return _read_mnist(folder, spec.split) if source.name == "MNIST" else _read_cifar10(folder, spec.split)


def _download(name: str, root: Path) -> None:
    """Bring the data set to ``root`` unless it is there or another job brings it."""
    target = root / TORCHVISION_FOLDERS[name].parts[0]
    if target.is_dir():
        return
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            _download_whole(name, target)


def _download_whole(name: str, target: Path) -> None:
    """Download beside ``target`` and move it there at the end: a killed job leaves nothing half-done in place."""
    partial = target.with_name(f".{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        DATASETS[name](partial, download=True)
        (partial / target.name).rename(target)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"data.source = torchvision: {name} could not be downloaded ({reason}); without a network, put its files "
            f"into a folder and set data.source to {OTHER_SOURCES[name]}"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read_mnist(folder: Path, split: str) -> tuple[Images, AnyLabels]:
    images, labels = idx_files(folder, split)
    for path in (images, labels):
        _require_file(path, "MNIST")
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        _require_md5(content, MNIST_MD5[path.name.removesuffix(".gz")], path, "MNIST")
    return read_images(images), read_labels(labels)


def _read_cifar10(folder: Path, split: str) -> tuple[Images, AnyLabels]:
    """CIFAR-10 through torchvision; its files are pickles, so none is opened before all have their known MD5."""
    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    for name, md5 in (*CIFAR10.train_list, *CIFAR10.test_list, meta):
        _require_file(folder / name, "CIFAR10")
        _require_md5((folder / name).read_bytes(), md5, folder / name, "CIFAR10")
    dataset = CIFAR10(folder.parent, train=split == "train")
    return dataset.data.transpose(0, 3, 1, 2), np.asarray(dataset.targets)


def _require_file(path: Path, name: str) -> None:
    if not path.is_file():
        raise UserError(
            f"{path}, a file of torchvision's {name}, does not exist; data.source: torchvision downloads the whole set "
            f"where there is no folder for it"
        )


def _require_md5(content: bytes, expected: str, path: Path, name: str) -> None:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise UserError(f"{path} is not {name}'s: its content has the MD5 {found}, but should have {expected}")
