"""Many small images in one file: a page shows each by its place in it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

DEFINITION = {"gallery.sprites": 1}

LARGEST_SIDE = 48  # pixels of an image in the file; larger ones are scaled down
BLOCK = 16  # pixels that WebP's lossy form codes at once, so images there begin at multiples of it
LOSSLESS_BELOW = 32  # pixels; smaller images are a few hundred bytes all the same
QUALITY = 82  # of the lossy form, 0 ... 100


class Grid(NamedTuple):
    """Places of images in a file.

    Attributes:
        columns: images in a line.
        pitch: width and height of a place, pixels.
        size: width and height of an image, at the upper left of its place.
    """

    columns: int
    pitch: tuple[int, int]
    size: tuple[int, int]


def draw_sprite(images: npt.NDArray[np.uint8]) -> tuple[Image.Image, Grid, bool]:
    """All images in one, line by line.

    Args:
        images: (n, C, H, W) with 1 or 3 channels.

    Returns:
        the RGB or grey image, where each is, and whether it should be stored without loss.
    """
    count, channels, height, width = images.shape
    scale = min(1.0, LARGEST_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    lossless = max(size) < LOSSLESS_BELOW
    pitch = size if lossless else (_blocks(size[0]), _blocks(size[1]))
    columns = max(1, math.ceil(math.sqrt(count)))
    sheet = Image.new("L" if channels == 1 else "RGB", (columns * pitch[0], max(1, -(-count // columns)) * pitch[1]))
    for number, image in enumerate(images):
        picture = Image.fromarray(image[0] if channels == 1 else image.transpose(1, 2, 0))
        if scale < 1:
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        sheet.paste(picture, (number % columns * pitch[0], number // columns * pitch[1]))
    return sheet, Grid(columns, pitch, size), lossless


def _blocks(pixels: int) -> int:
    return -(-pixels // BLOCK) * BLOCK
