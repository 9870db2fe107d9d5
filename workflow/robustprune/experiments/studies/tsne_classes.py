"""Settings and measures of t-SNE layouts: how dense classes are, and how far apart (Kaufmann et al. v1, Appendix A.1).

The paper prints a density as a mean of points, without a unit; here it is images per area, so that only the direction
in which pruning moves it can be compared (papers.md, K11).
"""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from robustprune.core.settings import Settings

DEFINITION = {"layouts.measures": 2}

LAYOUT_FILE = "layout.parquet"
"""A row an image: index int64, label int16, x and y float32."""

FEWEST = 4  # images of a class that have an area without its tail
NEIGHBOURS = 10  # of an image, in the plane
DRAWS = 50  # of a class's images, for its density
TAIL = 0.01  # share of a class, farthest from its centroid, that counts as noise

Points = npt.NDArray[np.float32]
"""(N, 2)."""


class TsneSettings(Settings):
    """t-SNE of the first principal components (Kaufmann et al. v1, Appendix A)."""

    images: int | None = Field(5000, gt=0, description="first images of the real training pool; null for all")
    components: int = Field(50, ge=2, description="principal components that are the input of t-SNE")
    perplexity: float = Field(30.0, ge=1, description="t-SNE's number of neighbours, about")
    density_images: int = Field(20, ge=3, description="images of each class that its density is measured on")

    @model_validator(mode="after")
    def _there_are_neighbours(self) -> Self:
        if self.images is not None and self.images <= self.perplexity:
            raise ValueError(f"images = {self.images} should be more than perplexity = {self.perplexity:g}")
        return self


def classes_with_area(points: Points, labels: npt.NDArray[np.integer[Any]]) -> list[Points]:
    """Return the points of each class, by label, without its tail; classes of too few images have no area."""
    classes, counts = np.unique(labels, return_counts=True)
    return [without_tail(points[labels == label]) for label in classes[counts >= FEWEST]]


def without_tail(points: Points) -> Points:
    """Return a class without the hundredth of its points that is farthest from the centroid; (N, 2), N >= 1."""
    distance = np.linalg.norm(points - points.mean(0), axis=1)
    kept = len(points) - int(TAIL * len(points))
    return points[np.argsort(distance, kind="stable")[:kept]]


def density(classes: list[Points], images: int) -> float | None:
    """Return the points of a class per area of its convex hull, the mean over classes, on equally many of each.

    The hull of more points of the same kind is little larger, so that their number alone would decide: a random 40 % of
    the digits have 0.38 to 0.49 of the density. So each class counts with ``images`` of its points, the mean over
    ``DRAWS`` draws.

    Args:
        classes: (N, 2) points of each class.
        images: points drawn of each class, at least 3; classes with fewer are left out.

    Returns:
        points per area; None where no class has so many.
    """
    from scipy.spatial import ConvexHull

    chance = np.random.default_rng(0)
    areas = [
        np.mean([ConvexHull(chance.permutation(points)[:images]).volume for _ in range(DRAWS)])
        for points in classes
        if len(points) >= images
    ]
    return float(np.mean([images / area for area in areas])) if areas else None


def separation(classes: list[Points]) -> float:
    """Return the squared distance of a class's centroid to the nearest other, the mean over at least two classes."""
    centroids = np.array([points.mean(0) for points in classes], dtype=np.float64)
    squared = ((centroids[:, None] - centroids[None]) ** 2).sum(2)
    np.fill_diagonal(squared, np.inf)
    return float(squared.min(1).mean())


def purity(points: Points, labels: npt.NDArray[np.integer[Any]]) -> float:
    """Return the share of an image's nearest other images that are of its class, the mean over images.

    1 where no two classes mix. It is not in the paper, and measures how clearly classes are delineated. It depends
    little on the number of images, which is at least 2, and not on the unit of length.
    """
    from scipy.spatial import cKDTree

    neighbours = cKDTree(points).query(points, min(NEIGHBOURS + 1, len(points)))[1]
    itself = neighbours == np.arange(len(points))[:, None]
    same = (labels[neighbours] == labels[:, None]) & ~itself
    return float((same.sum(1) / (~itself).sum(1)).mean())
