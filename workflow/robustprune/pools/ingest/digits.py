"""scikit-learn's 1,797 handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak 1998), in the package itself."""

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

from robustprune.pools.format import AnyLabels, Images
from robustprune.pools.ingest.stream import ImageStream
from robustprune.pools.writing import in_blocks
from robustprune.specs import IngestedPoolSpec

DEFINITION = 1
TEST_IMAGES_PER_CLASS = 50


def open_stream(spec: IngestedPoolSpec) -> ImageStream:
    """The images of ``read``."""
    images, labels = read(spec.split)
    return ImageStream(len(images), in_blocks(images, labels))


def read(split: str) -> tuple[Images, AnyLabels]:
    """A split's images and labels, in scikit-learn's order.

    The set has no split of its own. Here 50 images of each class, 500 in all, are for testing and the other 1,297 for
    training; ``test_rows`` tells which. The 17 grey levels 0 ... 16 become round(255 / 16 * level).

    Returns:
        images: (N, 1, 8, 8) uint8.
        labels: (N,) int64.
    """
    digits = load_digits()
    chosen = test_rows(digits.target) == (split == "test")
    images = np.round(digits.images * 255 / 16).astype(np.uint8)
    return images[chosen, None], digits.target[chosen]


def test_rows(labels: AnyLabels) -> npt.NDArray[np.bool_]:
    """(N,) bool: which rows are for testing, the same for ever, spread evenly over each class.

    Of a class of n images in order, image k = 0 ... n - 1 is for testing where floor(50 k / n) is another number than
    floor(50 (k + 1) / n). That happens 50 times. People wrote long runs of the set, so a block from its end would be
    other hands' digits.
    """
    chosen = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        steps = TEST_IMAGES_PER_CLASS * np.arange(len(rows) + 1) // len(rows)
        chosen[rows] = np.diff(steps) > 0
    return chosen
