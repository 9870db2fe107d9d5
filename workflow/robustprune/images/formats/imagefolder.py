"""Image folders with one sub-folder per class, as torchvision's ``ImageFolder`` reads them."""

from collections.abc import Iterator

from robustprune.core.errors import UserError
from robustprune.images.encoding import EncodedImage
from robustprune.images.formats.listing import class_names, image_files
from robustprune.images.formats.stream import ImageStream, Pictures, decoding_stream
from robustprune.images.ingested import IngestedPoolStage
from robustprune.images.sources import planned_files
from robustprune.images.specs import FileSource

DEFINITION = {"pools.ingest.imagefolder": 1}


def open_stream(spec: IngestedPoolStage) -> ImageStream:
    """Return the images of the folder of ``spec.source`` in the order of ``image_files``, with ``class_names`` as fact.

    Raises:
        UserError: if the number of classes differs from ``spec.classes`` or there are no images; in the blocks, if an
            image cannot be decoded or has another size.
    """
    assert isinstance(spec.source, FileSource)
    (folder,) = planned_files(spec.source)
    names, files = class_names(folder), image_files(folder)
    if len(names) != spec.classes:
        actual = f"{len(names)} sub-folders ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        raise UserError(f"{folder} has {actual}, but data.classes is {spec.classes}; use one sub-folder per class")
    if not files:
        raise UserError(f"{folder} has no images in its sub-folders")

    def encoded(first: int) -> Iterator[EncodedImage]:
        for file in files[first:]:
            try:
                content = (folder / file.path).read_bytes()
            except OSError as error:
                raise UserError(f"{folder / file.path} cannot be read: {error.strerror}") from None
            yield EncodedImage(content, file.label, file.path)

    return decoding_stream(len(files), Pictures(folder, encoded), shape=spec.image_shape, facts={"class_names": names})
