"""Image folders with one sub-folder per class, as torchvision's ``ImageFolder`` reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from robustprune.core.errors import UserError
from robustprune.images.formats.data_format import DataFormat, data_format
from robustprune.images.formats.listing import class_names, image_files
from robustprune.images.formats.stream import EncodedImage, ImageStream, Pictures, decoding_stream
from robustprune.images.sources import FileSource, planned_files

if TYPE_CHECKING:
    from robustprune.images.ingested import IngestedPoolStage

DEFINITION = {"pools.decoding": 1, "pools.ingest.imagefolder": 1, "pools.ingest.listing": 1}


@data_format(
    "imagefolder",
    pictures=True,
    generated=True,
    hint="an image folder has one sub-folder of images (png, jpg, webp, ...) per class",
)
class ImagefolderFormat(DataFormat):
    """Images in imagefolder files."""

    def files(self, folder: Path, split: str) -> list[Path]:
        """Return ``train`` or ``test``; ``val`` if there is no ``test``, as in ImageNet."""
        return [folder / ("val" if split == "test" and not (folder / "test").is_dir() else split)]

    def count(self, files: list[Path]) -> int:
        """Return the number of images in the folder."""
        return len(image_files(files[0]))

    def open_stream(self, stage: IngestedPoolStage) -> ImageStream:
        """Return the images of the folder in the order of ``image_files``, with ``class_names`` as fact.

        Raises:
            UserError: if the number of classes differs from ``stage.classes`` or there are no images; in the blocks,
                if an image cannot be decoded or has another size.
        """
        assert isinstance(stage.source, FileSource)
        (folder,) = planned_files(stage.source)
        names, files = class_names(folder), image_files(folder)
        if len(names) != stage.classes:
            actual = f"{len(names)} sub-folders ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
            raise UserError(f"{folder} has {actual}, but data.classes is {stage.classes}; use one sub-folder per class")
        if not files:
            raise UserError(f"{folder} has no images in its sub-folders")

        def encoded(first: int) -> Iterator[EncodedImage]:
            for file in files[first:]:
                try:
                    content = (folder / file.path).read_bytes()
                except OSError as error:
                    raise UserError(f"{folder / file.path} cannot be read: {error.strerror}") from None
                yield EncodedImage(content, file.label, file.path)

        return decoding_stream(
            len(files), Pictures(folder, encoded), shape=stage.image_shape, facts={"class_names": names}
        )
