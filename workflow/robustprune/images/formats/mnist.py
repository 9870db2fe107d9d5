"""MNIST and Fashion-MNIST in torchvision's folders: idx files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchvision.datasets import FashionMNIST

from robustprune.images.formats.data_format import torchvision_set
from robustprune.images.formats.finding import idx_files
from robustprune.images.formats.idx import stream_files
from robustprune.images.formats.torchvision import require_md5

if TYPE_CHECKING:
    from pathlib import Path

    from robustprune.images.formats.stream import ImageStream
    from robustprune.images.ingested import IngestedPoolStage

MNIST_MD5 = {  # of the unpacked files: torchvision knows the MD5 of the published .gz files only
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


@torchvision_set("MNIST")
@torchvision_set("FashionMNIST")
def open_idx(name: str, folder: Path, spec: IngestedPoolStage) -> ImageStream:
    """Return the images of one split after verifying its files."""
    images, labels = (_verified(name, path) for path in idx_files(folder, spec.split))
    return stream_files(images, labels, spec.image_shape)


def _verified(name: str, path: Path) -> Path:
    """Return the file to read after verifying its MD5: of the unpacked file for MNIST, of the .gz for Fashion-MNIST."""
    stem = path.name.removesuffix(".gz")
    if name == "MNIST":
        require_md5(path, MNIST_MD5[stem], name, unpacked=path.suffix == ".gz")
        return path
    published = path.with_name(f"{stem}.gz")
    require_md5(published, dict(FashionMNIST.resources)[published.name], name)
    return published
