"""Images, and the generators that some of them are drawn from."""

from typing import Literal

from pydantic import Field

from robustprune.core.settings import DIGEST_PATTERN, Settings

TorchvisionName = Literal["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN"]


class FileSource(Settings):
    """Images in files. ``digest`` is what they are, ``location`` where they lie now."""

    format: Literal["idx", "npz", "parquet", "imagefolder", "webdataset"]
    digest: str = Field(pattern=DIGEST_PATTERN)
    location: tuple[str, ...]


class TorchvisionLocation(Settings):
    """Torchvision's root folder, whether what is missing there may be downloaded, and from where first."""

    folder: str
    download: bool
    mirrors: tuple[str, ...] = ()


class TorchvisionSource(Settings):
    """A data set that torchvision knows and checks by its own MD5 sums, so its name says what it is."""

    format: Literal["torchvision"] = "torchvision"
    name: TorchvisionName
    location: TorchvisionLocation


class DigitsSource(Settings):
    """scikit-learn's 1,797 digits, part of that package."""

    format: Literal["digits"] = "digits"
