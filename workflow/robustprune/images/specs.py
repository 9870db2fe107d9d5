"""Where images come from: files of some format, torchvision's data sets, scikit-learn's digits."""

from typing import Annotated, Literal

from pydantic import Field

from robustprune.core.declarations import Named
from robustprune.core.settings import DIGEST_PATTERN, Settings
from robustprune.images.formats.registry import FORMATS, TORCHVISION_SETS


class FileSource(Settings):
    """Images in files. ``digest`` is what they are, ``location`` where they lie now."""

    format: Annotated[str, Named(FORMATS)]
    digest: str = Field(pattern=DIGEST_PATTERN)
    location: tuple[str, ...]


class TorchvisionLocation(Settings):
    """Torchvision's root folder, whether what is missing there may be downloaded, and from where first."""

    folder: str
    download: bool
    mirrors: tuple[str, ...] = ()


class TorchvisionSource(Settings):
    """A data set that torchvision knows and checks by its own MD5 sums, so its name says what it is."""

    format: Annotated[Literal["torchvision"], Named(FORMATS)] = "torchvision"
    name: Annotated[str, Named(TORCHVISION_SETS)]
    location: TorchvisionLocation


class DigitsSource(Settings):
    """scikit-learn's 1,797 digits, part of that package."""

    format: Annotated[Literal["digits"], Named(FORMATS)] = "digits"
