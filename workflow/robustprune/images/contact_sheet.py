"""A picture of a pool, with one row per class, which is published next to the pool's files."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from robustprune.core.job import Job
from robustprune.images.images_by_row import PoolImages
from robustprune.images.pool import AnyLabels, open_pool

SHEET_FILE = "contact_sheet.png"
GAP = 3  # pixels between images
TILE_SIDE = 64  # pixels; smaller images are enlarged to at most this, larger ones scaled down to it
LABEL_WIDTH = 28  # pixels left of a row, for the number of its class
LABEL_SIZE = 14  # pixels
BACKGROUND, INK = "lightsteelblue", "black"  # no grey, so that the edges of grey images show


def publish_with_sheet(job: Job, *names: str, digests: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Publish a pool's files (see ``Job.publish``) and its contact sheet; return count, class_counts and digest."""
    job.publish(*names, digests=digests)
    pool = open_pool(job.directory)
    contact_sheet(pool.images, pool.labels, pool.info.classes).save(job.partial / SHEET_FILE)
    job.publish(SHEET_FILE)
    return pool.info.model_dump(mode="json", include={"count", "class_counts", "digest"})


def contact_sheet(images: PoolImages, labels: AnyLabels, classes: int, per_class: int = 12) -> Image.Image:
    """Return an RGB image of the first ``per_class`` images of each class, one row per class from 0 downwards.

    ``images`` are grey or RGB. Small ones are enlarged by a whole factor without smoothing. A class with fewer images
    leaves a blank.
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
    """Return width and height of an image on the sheet."""
    larger = max(height, width)
    if larger <= TILE_SIDE:
        return TILE_SIDE // larger * width, TILE_SIDE // larger * height
    return max(1, TILE_SIDE * width // larger), max(1, TILE_SIDE * height // larger)


def _tile(image: npt.NDArray[np.uint8]) -> Image.Image:
    pixels = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    resampling = Image.Resampling.NEAREST if max(image.shape) <= TILE_SIDE else Image.Resampling.BILINEAR
    return Image.fromarray(pixels).resize(_tile_size(*image.shape[1:]), resampling)
