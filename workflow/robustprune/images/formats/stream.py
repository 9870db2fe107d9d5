"""Image streams, which every source provides: the number of images, and iterators over blocks of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from robustprune.images.encoded import decode

if TYPE_CHECKING:
    from robustprune.core.stage import ImageShape


BLOCK_BYTES = 2**21  # of pixels that are read, checked and written at once
Block = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""images (n, C, H, W) and labels (n,), as a source has them."""
Blocks = Callable[[int], Iterable[Block]]
"""``blocks(first)``: the images and labels from row ``first`` on, in order."""


def rows_at_once(image_shape: tuple[int, int, int]) -> int:
    """Return how many images make a block."""
    return max(1, BLOCK_BYTES // math.prod(image_shape))


def in_blocks(images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Blocks:
    """Arrays of all images and labels, cut into blocks."""

    def blocks(first: int) -> Iterator[Block]:
        length = rows_at_once(images.shape[1:])
        for start in range(first, len(images), length):
            yield images[start : start + length], labels[start : start + length]

    return blocks


class EncodedImage(NamedTuple):
    """An image as a source has it.

    Attributes:
        encoded: the bytes of a JPEG, PNG or the like.
        label: its class.
        path: what it is called at its source; kept beside it.
    """

    encoded: bytes
    label: int
    path: str


@dataclass(frozen=True)
class Pictures:
    """Encoded images: JPEG, PNG or similar.

    Attributes:
        folder: their folder, for error messages.
        images: ``images(first)`` iterates from row ``first`` on, in order.
    """

    folder: Path
    images: Callable[[int], Iterator[EncodedImage]]


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
