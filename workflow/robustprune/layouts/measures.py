"""How dense the classes of a layout are, and how far apart (Kaufmann et al. v1, Appendix A.1; facts K11).

What they print as a density is a mean of points, without a unit; here it is images per area, so that only the direction
in which pruning moves it can be compared.
"""

import numpy as np
from scipy.spatial import ConvexHull

from robustprune.layouts.plane import Points

DEFINITION = 1

TAIL = 0.01  # of a class, those farthest from its centroid, are noise


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
