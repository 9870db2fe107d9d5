"""How dense the classes of a layout are, and how far apart (Kaufmann et al. v1, Appendix A.1; papers.md, K11).

What they print as a density is a mean of points, without a unit; here it is images per area, so that only the direction
in which pruning moves it can be compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, cKDTree

Points = npt.NDArray[np.float32]
"""(N, 2)."""


DEFINITION = {"layouts.measures": 1}

FEWEST = 4  # images of a class that have an area once the tail is cut
NEIGHBOURS = 10  # of an image, in the plane
TAIL = 0.01  # of a class, those farthest from its centroid, are noise


def classes_with_area(points: Points, labels: npt.NDArray[np.integer[Any]]) -> list[Points]:
    """The points of each class, by label, without its tail; a class that pruning left too few of has no area.

    Args:
        points: (N, 2).
        labels: (N,) class of each.
    """
    found, counts = np.unique(labels, return_counts=True)
    return [without_tail(points[labels == label]) for label in found[counts >= FEWEST]]


def without_tail(points: Points) -> Points:
    """A class without the hundredth of its points that is farthest from the centroid; (N, 2), N >= 1."""
    distance = np.linalg.norm(points - points.mean(0), axis=1)
    kept = len(points) - int(TAIL * len(points))
    return points[np.argsort(distance, kind="stable")[:kept]]


def density(classes: list[Points]) -> float:
    """Points of a class per area of its convex hull, the mean over classes with an area.

    Args:
        classes: (N, 2) points of each class, at least three in each.
    """
    return float(np.mean([len(points) / ConvexHull(points).volume for points in classes]))


def separation(classes: list[Points]) -> float:
    """Squared distance from a class's centroid to the nearest other one, the mean over classes, at least two."""
    centroids = np.array([points.mean(0) for points in classes], dtype=np.float64)
    squared = ((centroids[:, None] - centroids[None]) ** 2).sum(2)
    np.fill_diagonal(squared, np.inf)
    return float(squared.min(1).mean())


def purity(points: Points, labels: npt.NDArray[np.integer[Any]]) -> float:
    """Share of an image's nearest other images that are of its class, the mean over images: 1 where no two classes mix.

    Not in the paper: it says in a number how clearly classes are delineated. It depends little on how many images
    there are, and not at all on the unit of length.

    Args:
        points: (N, 2), N >= 2.
        labels: (N,) class of each.
    """
    neighbours = cKDTree(points).query(points, min(NEIGHBOURS + 1, len(points)))[1]
    own = neighbours == np.arange(len(points))[:, None]
    same = (labels[neighbours] == labels[:, None]) & ~own
    return float((same.sum(1) / (~own).sum(1)).mean())
