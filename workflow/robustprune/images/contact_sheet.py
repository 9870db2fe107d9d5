"""A picture of a pool: the first images of each class, a row a class."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from robustprune.images.pool import AnyLabels
from robustprune.images.rows import PoolImages

SHEET_FILE = "contact_sheet.png"
GAP = 3  # pixels between images
TILE_SIDE = 64  # pixels; smaller images are enlarged to at most this, larger ones scaled down to it
LABEL_WIDTH = 28  # pixels left of a row, for the number of its class
LABEL_SIZE = 14  # pixels
BACKGROUND, INK = "lightsteelblue", "black"  # no grey, so that the edges of grey images show


def contact_sheet(images: PoolImages, labels: AnyLabels, classes: int, per_class: int = 12) -> Image.Image:
    """The first images of each class in a grid, classes from 0 downwards; a class with fewer images leaves a blank.

    Args:
        images: (N, C, H, W) uint8, grey (C = 1) or red, green and blue (C = 3).
        labels: (N,) integers in 0 ... ``classes`` - 1.
        classes: number of rows.
        per_class: number of columns.

    Returns:
        An RGB image. A pixel of a small image is drawn as a square of as many pixels as fit, so nothing is smoothed.
    """
    width, height = _tile_size(*images.shape[2:])
    pitch_x, pitch_y = width + GAP, height + GAP
    sheet = Image.new("RGB", (LABEL_WIDTH + per_class * pitch_x, GAP + classes * pitch_y), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for label in range(classes):
        top = GAP + label * pitch_y
        draw.text((LABEL_WIDTH / 2, top + height / 2), str(label), INK, anchor="mm", font_size=LABEL_SIZE)
        for column, row in enumerate(np.flatnonzero(labels == label)[:per_class]):
            sheet.paste(_tile(images[row]), (LABEL_WIDTH + column * pitch_x, top))
    return sheet


def _tile_size(height: int, width: int) -> tuple[int, int]:
    """Width and height of an image on the sheet."""
    larger = max(height, width)
    if larger <= TILE_SIDE:
        return TILE_SIDE // larger * width, TILE_SIDE // larger * height
    return max(1, TILE_SIDE * width // larger), max(1, TILE_SIDE * height // larger)


def _tile(image: npt.NDArray[np.uint8]) -> Image.Image:
    pixels = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    size = _tile_size(*image.shape[1:])
    resampling = Image.Resampling.NEAREST if max(image.shape) <= TILE_SIDE else Image.Resampling.BILINEAR
    return Image.fromarray(pixels).resize(size, resampling)
