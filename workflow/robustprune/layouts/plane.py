"""Lays images out in a plane: principal components, then t-SNE (Kaufmann et al. v1, Appendix A.1)."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from robustprune.settings import LayoutSettings

DEFINITION = 1

Points = npt.NDArray[np.float32]
"""(N, 2)."""


def plane(images: npt.NDArray[np.uint8], settings: LayoutSettings, seed: int) -> Points:
    """Where each image lies, both axes brought to mean 0 and standard deviation 1.

    Args:
        images: (N, C, H, W), N above the perplexity.
        settings: components and perplexity.
        seed: of both methods.
    """
    pixels = images.reshape(len(images), -1).astype(np.float32) / 255
    components = min(settings.components, *pixels.shape)
    reduced = PCA(components, random_state=seed).fit_transform(pixels)
    layout = TSNE(2, perplexity=settings.perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return standardised(layout)


def standardised(points: npt.NDArray[np.floating[Any]]) -> Points:
    """The points with mean 0 and standard deviation 1 along each axis."""
    return np.asarray((points - points.mean(0)) / points.std(0), dtype=np.float32)
