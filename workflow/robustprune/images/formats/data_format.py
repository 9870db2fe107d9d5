"""What images come in and how a pool keeps them: data formats, torchvision's data sets, and storages."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from robustprune.core.declarations import Declarations

if TYPE_CHECKING:
    from pathlib import Path

    from robustprune.core.job import Job
    from robustprune.images.formats.stream import ImageStream
    from robustprune.images.ingested import IngestedPoolStage


class DataFormat(ABC):
    """A format that images come in; one class per format, in a file of this folder."""

    @abstractmethod
    def files(self, folder: "Path", split: str) -> list["Path"]:
        """Return the existing or expected files of a split of the real images."""

    def count(self, files: list["Path"]) -> int | None:
        """Return the number of images in some files by their headers; None where headers do not say."""
        return None

    @abstractmethod
    def open_stream(self, stage: "IngestedPoolStage") -> "ImageStream":
        """Open the images of a stage's source. Raises UserError naming the file that is missing or broken."""


FORMATS: Declarations[DataFormat] = Declarations("data_format", "robustprune.images.formats")
OpenSet = Callable[[str, "Path", "IngestedPoolStage"], "ImageStream"]
TORCHVISION_SETS: Declarations[OpenSet] = Declarations("torchvision_set", "robustprune.images.formats")


def data_format(
    name: str, *, pictures: bool, generated: bool, hint: str
) -> Callable[[type[DataFormat]], type[DataFormat]]:
    """Declare a data format.

    Args:
        name: word before the colon in ``data.source`` and ``synthetic.source``.
        pictures: True if the files hold encoded images, which a pool can keep, and not pixels.
        generated: True if generated images may come in it, in one file or in files of a pattern.
        hint: where to get such files, for the message that one is missing.
    """

    def declare(format_class: type[DataFormat]) -> type[DataFormat]:
        FORMATS.declare(name, format_class())
        return format_class

    return declare


def torchvision_set(name: str) -> Callable[[OpenSet], OpenSet]:
    """Declare a function that opens a data set in torchvision's folders."""
    return lambda function: TORCHVISION_SETS.declare(name, function)


Publish = Callable[["Job"], dict[str, Any]]
Fill = Callable[["Job", "IngestedPoolStage", "ImageStream"], Publish]
STORAGES: Declarations[Fill] = Declarations("storage", "robustprune.images")


def storage(name: str) -> Callable[[Fill], Fill]:
    """Declare a function that writes a stream as a pool's files and returns the function that publishes them."""
    return lambda function: STORAGES.declare(name, function)
