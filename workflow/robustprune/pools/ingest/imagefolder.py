"""An image folder: a sub-folder for each class, pictures in it, as torchvision's ``ImageFolder`` has them."""

from collections.abc import Iterator
from pathlib import Path

from robustprune.errors import UserError
from robustprune.pools.encoding import EncodedImage
from robustprune.pools.ingest.listing import class_names, image_files
from robustprune.pools.ingest.stream import ImageStream, Pictures, decoding_stream
from robustprune.sources import planned_files
from robustprune.specs import FileSource, IngestedPoolSpec

DEFINITION = 1


def open_stream(spec: IngestedPoolSpec) -> ImageStream:
    """The pictures of the folder of ``spec.source``, classes mixed (``listing.image_files``); its names as a fact.

    Raises:
        UserError: naming the folder, when it has another number of classes than ``spec``, or no pictures; in its
            blocks, a picture that cannot be decoded or has another size.
    """
    assert isinstance(spec.source, FileSource)
    (folder,) = planned_files(spec.source)
    names, files = class_names(folder), image_files(folder)
    if len(names) != spec.classes:
        found = f"{len(names)} sub-folders ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        raise UserError(
            f"{folder} should have a sub-folder for each class, but has {found}; data.classes is {spec.classes}"
        )
    if not files:
        raise UserError(f"{folder} has no pictures in its sub-folders")

    def encoded(first: int) -> Iterator[EncodedImage]:
        for file in files[first:]:
            yield EncodedImage(_read(folder / file.path), file.label, file.path)

    return decoding_stream(len(files), Pictures(folder, encoded), shape=spec.image_shape, facts={"class_names": names})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
