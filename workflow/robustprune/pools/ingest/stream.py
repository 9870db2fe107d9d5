"""What every source of images gives: their number, and a way to go through them block by block."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustprune.pools.decoding import decode
from robustprune.pools.writing import Block, Blocks, rows_at_once
from robustprune.specs.base import ImageShape

if TYPE_CHECKING:  # it brings pyarrow, which most sources do not need
    from robustprune.pools.encoding import EncodedImage


@dataclass(frozen=True)
class Pictures:
    """Images as a source has them: JPEGs, PNGs or the like.

    Attributes:
        folder: where they lie, for the message of a UserError.
        images: from a row on, in order.
    """

    folder: Path
    images: "Callable[[int], Iterator[EncodedImage]]"


@dataclass(frozen=True)
class ImageStream:
    """The images of a source, in order.

    Attributes:
        count: images in all, as the source states before they are read.
        blocks: the images and labels from a row on. Images are (n, C, H, W), of whatever dtype the source has.
        pictures: what ``blocks`` are decoded from; None where the source has pixels.
        facts: what else is known of them, for the record.
    """

    count: int
    blocks: Blocks
    pictures: Pictures | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def decoding_stream(
    count: int, pictures: Pictures, *, shape: ImageShape, facts: dict[str, Any] | None = None
) -> ImageStream:
    """The stream of a source that has pictures."""
    return ImageStream(count, lambda first: _decoded(pictures, first, shape), pictures, facts or {})


def _decoded(pictures: Pictures, first: int, shape: ImageShape) -> Iterator[Block]:
    images, labels = [], []
    length = rows_at_once(shape)
    for row in pictures.images(first):
        images.append(decode(row.encoded, str(pictures.folder / row.path), shape))
        labels.append(row.label)
        if len(images) == length:
            yield np.stack(images), np.array(labels)
            images, labels = [], []
    if images:
        yield np.stack(images), np.array(labels)
