"""The Frechet distance between two sets of features, taken for Gaussians (Heusel et al. 2017, equation 6)."""

from typing import Any

import numpy as np
import numpy.typing as npt

DEFINITION = 1

Features = npt.NDArray[np.floating[Any]]  # (N, D)


def frechet_distance(some: Features, others: Features) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), in the squared unit of the features, in float64.

    It is too large for few images, the more so the more dimensions there are: compare only at equal numbers of them.

    Args:
        some: (N, D) features of at least 2 images.
        others: (M, D) features of at least 2 other images.
    """
    (mean, covariance), (other_mean, other_covariance) = _moments(some), _moments(others)
    root = _square_root(covariance)
    # The eigenvalues of C C' are those of C^(1/2) C' C^(1/2), which is symmetric.
    cross = np.linalg.eigvalsh(root @ other_covariance @ root).clip(min=0)
    spread = np.trace(covariance) + np.trace(other_covariance) - 2 * np.sqrt(cross).sum()
    return float(np.square(mean - other_mean).sum() + max(spread, 0.0))


def _moments(features: Features) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    exact = features.astype(np.float64)
    return exact.mean(0), np.atleast_2d(np.cov(exact, rowvar=False))


def _square_root(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of a symmetric matrix that is not negative, up to rounding."""
    values, vectors = np.linalg.eigh(matrix)
    root: npt.NDArray[np.float64] = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root
