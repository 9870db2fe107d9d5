"""The 1,797 handwritten digits of 8 x 8 pixels in scikit-learn (Alpaydin and Kaynak 1998)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

from robustprune.images.formats.data_format import DataFormat, data_format
from robustprune.images.formats.stream import ImageStream, in_blocks

if TYPE_CHECKING:
    from robustprune.images.ingested import IngestedPoolStage
    from robustprune.images.pool import AnyLabels, Images

DEFINITION = {"pools.ingest.digits": 1}
TEST_IMAGES_PER_CLASS = 50


def read(split: str) -> tuple[Images, AnyLabels]:
    """Return the images and labels of a split, in scikit-learn's order.

    scikit-learn defines no split. ``test_rows`` selects 50 test images per class (500 images); the other 1,297 are
    training images. Grey level k = 0 ... 16 becomes round(255 / 16 * k).

    Returns:
        images: (N, 1, 8, 8) uint8.
        labels: (N,) int64.
    """
    digits = load_digits()
    chosen = test_rows(digits.target) == (split == "test")
    images = np.round(digits.images * 255 / 16).astype(np.uint8)
    return images[chosen, None], digits.target[chosen]


def test_rows(labels: AnyLabels) -> npt.NDArray[np.bool_]:
    """Return an (N,) bool mask of the test images, spread evenly over each class.

    Image k = 0 ... n - 1 of a class of n images is a test image if floor(50 k / n) < floor(50 (k + 1) / n), which holds
    50 times. A block at the end would contain other writers only, since each person wrote a long run of the digits.
    """
    chosen = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        steps = TEST_IMAGES_PER_CLASS * np.arange(len(rows) + 1) // len(rows)
        chosen[rows] = np.diff(steps) > 0
    return chosen


@data_format("digits", pictures=False, generated=False, hint="it is part of scikit-learn")
class DigitsFormat(DataFormat):
    """scikit-learn's digits."""

    def files(self, folder: Path, split: str) -> list[Path]:
        """Return no file: the library knows them."""
        return []

    def open_stream(self, stage: IngestedPoolStage) -> ImageStream:
        """Return the images of ``read``."""
        images, labels = read(stage.split)
        return ImageStream(len(images), in_blocks(images, labels))
