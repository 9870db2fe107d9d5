"""Image streams, which every source provides: the number of images, and iterators over blocks of images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustprune.core.stage import ImageShape
from robustprune.images.encoded import decode
from robustprune.images.writing import Block, Blocks, rows_at_once

if TYPE_CHECKING:  # imports pyarrow, which most sources do not need
    from robustprune.images.encoding import EncodedImage


@dataclass(frozen=True)
class Pictures:
    """Encoded images: JPEG, PNG or similar.

    Attributes:
        folder: their folder, for error messages.
        images: ``images(first)`` iterates from row ``first`` on, in order.
    """

    folder: Path
    images: "Callable[[int], Iterator[EncodedImage]]"


@dataclass(frozen=True)
class ImageStream:
    """The images of a source, in order.

    Attributes:
        count: number of images, as the source states before they are read.
        blocks: ``blocks(first)`` iterates over images (n, C, H, W) of the source's dtype and labels (n,) from row
            ``first`` on.
        pictures: the encoded images of ``blocks``; None if the source stores pixels.
        facts: further facts for the record.
    """

    count: int
    blocks: Blocks
    pictures: Pictures | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def decoding_stream(
    count: int, pictures: Pictures, *, shape: ImageShape, facts: dict[str, Any] | None = None
) -> ImageStream:
    """Return the stream that decodes ``pictures``."""

    def blocks(first: int) -> Iterator[Block]:
        images, labels = [], []
        for row in pictures.images(first):
            images.append(decode(row.encoded, str(pictures.folder / row.path), shape))
            labels.append(row.label)
            if len(images) == rows_at_once(shape):
                yield np.stack(images), np.array(labels)
                images, labels = [], []
        if images:
            yield np.stack(images), np.array(labels)

    return ImageStream(count, blocks, pictures, facts or {})
