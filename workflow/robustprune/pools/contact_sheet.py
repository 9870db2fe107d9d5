"""A picture of a pool: its first images of each class, for people who look before they read."""

import numpy as np
import numpy.typing as npt
from PIL import Image

GAP = 2  # pixels of background between images
SMALLEST_SIDE = 48  # small images are enlarged by a whole factor to at least this many pixels
BACKGROUND = 96


def contact_sheet(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer], classes: int, per_class: int = 12
) -> Image.Image:
    """One row a class, from class 0 at the top, with its first ``per_class`` images.

    Args:
        images: (N, C, H, W) uint8 with 1 or 3 channels.
        labels: (N,) integers in 0 ... classes - 1.
        classes: number of rows; a class without images leaves its row empty.
        per_class: number of columns.

    Returns:
        An RGB picture.
    """
    scale = -(-SMALLEST_SIDE // min(images.shape[2:]))
    height, width = images.shape[2] * scale + GAP, images.shape[3] * scale + GAP
    sheet = np.full((classes * height + GAP, per_class * width + GAP, 3), BACKGROUND, dtype=np.uint8)
    for row in range(classes):
        for column, sample in enumerate(np.flatnonzero(labels == row)[:per_class]):
            enlarged = images[sample].transpose(1, 2, 0).repeat(scale, axis=0).repeat(scale, axis=1)
            top, left = row * height + GAP, column * width + GAP
            sheet[top : top + height - GAP, left : left + width - GAP] = enlarged  # one channel spreads over three
    return Image.fromarray(sheet)
