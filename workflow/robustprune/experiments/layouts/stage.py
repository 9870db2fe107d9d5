"""The stage that lays images out in a plane."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from robustprune.core.errors import UserError
from robustprune.core.files import replacing
from robustprune.core.job import Job
from robustprune.experiments.layouts.measures import FEWEST, classes_with_area, density, plane, separation
from robustprune.experiments.layouts.specs import LayoutStage
from robustprune.images.pool import open_pool
from robustprune.training.mid_training import MID_TRAINING_FILE

LAYOUT_FILE = "layout.parquet"
FEWEST_CLASSES = 2  # between which there is a distance


def run(job: Job, spec: LayoutStage) -> dict[str, Any]:
    """Write layout.parquet: index int64, label int16, x and y float32 of each image.

    Returns:
        images, density (images per area of their class's convex hull) and separation (squared distance of a centroid to
        the nearest other), both over the ``classes`` that have an area, axes having standard deviation 1.

    Raises:
        UserError: where fewer than two classes have an area, or there are too few images for the perplexity.
    """
    pool = open_pool(job.upstream("pools", spec.pool))
    rows = np.arange(min(spec.settings.images or len(pool), len(pool)))
    if spec.model is not None:
        rows = np.intersect1d(rows, _kept(job, spec))
    labels = pool.labels[rows]
    _refuse_too_few(spec, labels)
    points = plane(pool.images[rows], spec.settings, spec.seed)
    classes = classes_with_area(points, labels)
    with replacing(job.partial / LAYOUT_FILE) as temporary:
        table = {"index": rows.astype(np.int64), "label": labels, "x": points[:, 0], "y": points[:, 1]}
        pd.DataFrame(table).to_parquet(temporary, index=False)
    job.publish(LAYOUT_FILE)
    return {
        "images": len(rows),
        "classes": len(classes),
        "density": density(classes),
        "separation": separation(classes),
    }


def _kept(job: Job, spec: LayoutStage) -> npt.NDArray[np.int64]:
    """The rows of the pool that a training kept in its middle."""
    assert spec.model is not None
    choice = pd.read_parquet(job.upstream("models", spec.model) / MID_TRAINING_FILE, columns=["pool", "index", "kept"])
    return choice.loc[(choice["pool"] == spec.pool) & choice["kept"], "index"].to_numpy(np.int64)


def _refuse_too_few(spec: LayoutStage, labels: npt.NDArray[np.int16]) -> None:
    classes = int((np.unique(labels, return_counts=True)[1] >= FEWEST).sum())
    if classes < FEWEST_CLASSES or len(labels) <= spec.settings.perplexity:
        raise UserError(
            f"layout.images = {spec.settings.images} leaves {len(labels)} images; there should be {FEWEST} "
            f"of {FEWEST_CLASSES} classes at least, and more than layout.perplexity = {spec.settings.perplexity:g}"
        )
