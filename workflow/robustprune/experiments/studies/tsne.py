"""t-SNE of a pool's images, of all or of those that a training kept when it pruned."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.files import replacing
from robustprune.core.job import Job
from robustprune.core.paths import MID_TRAINING_FILE
from robustprune.core.stage import ModelId, PoolId, Stage, slug_of
from robustprune.experiments.studies.tsne_classes import (
    FEWEST,
    LAYOUT_FILE,
    Points,
    TsneSettings,
    classes_with_area,
    density,
    separation,
)

DEFINITION = {"layouts.plane": 1}

FEWEST_CLASSES = 2  # a separation is between classes


class TsneStage(Stage):
    """t-SNE of the images of a pool, or of those that a training kept when it pruned; and measures of its classes."""

    sentence = "images in a plane, and how far apart their classes lie"
    uses_device = False
    kind: Literal["layouts"] = "layouts"
    pool: PoolId
    model: ModelId | None = Field(description="the training that kept some of the images; null for all of them")
    settings: TsneSettings
    seed: int = Field(ge=0)

    @property
    def slug(self) -> str:
        return f"layout-{slug_of(self.model or self.pool)}"

    def run(self, job: Job) -> dict[str, Any]:
        """Write layout.parquet; return the measures of the classes with an area.

        Returns images; density (images per area of their class's convex hull, on equally many of each class) and
        separation (squared distance of a centroid to the nearest other) over the ``classes`` with an area, axes having
        standard deviation 1. Raises UserError where fewer than two classes have an area, or there are too few images
        for the perplexity.
        """
        import pandas as pd

        from robustprune.images.pool import open_pool

        pool = open_pool(job.upstream("pools", self.pool))
        rows = np.arange(min(self.settings.images or len(pool), len(pool)))
        if self.model is not None:
            rows = np.intersect1d(rows, _kept(job, self))
        labels = pool.labels[rows]
        _refuse_too_few(self, labels)
        points = plane(pool.images[rows], self.settings, self.seed)
        with replacing(job.partial / LAYOUT_FILE) as temporary:
            table = {"index": rows.astype(np.int64), "label": labels, "x": points[:, 0], "y": points[:, 1]}
            pd.DataFrame(table).to_parquet(temporary, index=False)
        job.publish(LAYOUT_FILE)
        classes = classes_with_area(points, labels)
        measures = {"density": density(classes, self.settings.density_images), "separation": separation(classes)}
        return {"images": len(rows), "classes": len(classes), **measures}


def plane(images: npt.NDArray[np.uint8], settings: TsneSettings, seed: int) -> Points:
    """Return the place of each (N, C, H, W) image, with mean 0 and standard deviation 1 along both axes.

    N is above the perplexity.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    pixels = images.reshape(len(images), -1).astype(np.float32) / 255
    components = min(settings.components, *pixels.shape)
    reduced = PCA(components, random_state=seed).fit_transform(pixels)
    layout = TSNE(2, perplexity=settings.perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return standardised(layout)


def standardised(points: npt.NDArray[np.floating[Any]]) -> Points:
    """Return the points with mean 0 and standard deviation 1 along each axis."""
    return np.asarray((points - points.mean(0)) / points.std(0), dtype=np.float32)


def _kept(job: Job, spec: TsneStage) -> npt.NDArray[np.int64]:
    """Return the rows of the pool that a training kept when it pruned."""
    import pandas as pd

    assert spec.model is not None
    choice = pd.read_parquet(job.upstream("models", spec.model) / MID_TRAINING_FILE, columns=["pool", "index", "kept"])
    return choice.loc[(choice["pool"] == spec.pool) & choice["kept"], "index"].to_numpy(np.int64)


def _refuse_too_few(spec: TsneStage, labels: npt.NDArray[np.int16]) -> None:
    classes = int((np.unique(labels, return_counts=True)[1] >= FEWEST).sum())
    if classes < FEWEST_CLASSES or len(labels) <= spec.settings.perplexity:
        raise UserError(
            f"layout.images = {spec.settings.images} leaves {len(labels)} images; there should be {FEWEST} "
            f"of {FEWEST_CLASSES} classes at least, and more than layout.perplexity = {spec.settings.perplexity:g}"
        )
