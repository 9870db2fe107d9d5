"""What is told of generated images: a line for all of them and one for each class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from robustprune.evaluation.quality.measuring import Seen, frechet_distance
from robustprune.images.contact_sheet import contact_sheet

if TYPE_CHECKING:
    from robustprune.images.pool import Pool

LINES, COLUMNS = 8, 12  # of a class's sheet


def draw_class_sheets(folder: Path, pool: Pool, seen: Seen) -> None:
    """Write ``<class>.png`` for each class: its first images, line by line."""
    folder.mkdir(exist_ok=True)
    for label in range(pool.info.classes):
        rows = seen.rows[seen.labels == label][: LINES * COLUMNS]
        lines = np.arange(len(rows)) // COLUMNS
        contact_sheet(np.array(pool.images[rows]), lines, LINES, COLUMNS).save(folder / f"{label}.png")


def draw_nearest(path: Path, pool: Pool, train: Pool, seen: Seen) -> None:
    """Above (0) the generated images that are nearest to a real one, the nearest first; below (1) the real ones."""
    order = np.argsort(seen.distance, kind="stable")[:COLUMNS]
    pairs = np.concatenate([pool.images[seen.rows[order]], train.images[seen.neighbour[order]]])
    contact_sheet(pairs, np.repeat([0, 1], len(order)), 2, COLUMNS).save(path)


DEFINITION = {"quality.report": 2}

NEAR_QUANTILE = 0.01  # of the distances of images that no generator saw: nearer than that is suspect


def summary(generated: Seen, held_out: Seen, train: Seen) -> dict[str, Any]:
    """Return the quality of all images.

    Args:
        generated: the generated images, with distances.
        held_out: real images that the generator did not see, with distances.
        train: real images that it learnt from.

    Returns:
        images: looked at.
        agreement: share of generated images in which the judge sees their label.
        judge_accuracy: the same of held-out images.
        frechet: distance of generated images to held-out ones.
        frechet_of_real: that of as many training images, or as there are: a yardstick, not a bound, as the judge
            learnt them.
        nearest, nearest_held_out: median distance to the nearest training image.
        near: share of generated images nearer to one than 99 % of the held-out images are; 0.01 is expected.
        copies: generated images that are a training image, pixel by pixel (above 32 pixels a side, of what both are
            averaged down to, as the distances are).
    """
    count = min(len(generated.rows), len(train.rows))
    near = np.quantile(held_out.distance, NEAR_QUANTILE)
    return {
        "images": len(generated.rows),
        "agreement": float(generated.right.mean()),
        "judge_accuracy": float(held_out.right.mean()),
        "frechet": frechet_distance(_evenly(generated.features, count), held_out.features),
        "frechet_of_real": frechet_distance(_evenly(train.features, count), held_out.features),
        "frechet_images": count,
        "nearest": float(np.median(generated.distance)),
        "nearest_held_out": float(np.median(held_out.distance)),
        "near": float((generated.distance < near).mean()),
        "copies": int((generated.distance == 0).sum()),
    }


def by_class(generated: Seen, held_out: Seen, classes: int) -> dict[str, dict[str, float]]:
    """Return for each class images, agreement, mean label probability, judge_accuracy and both median distances."""
    return {str(label): _of_class(label, generated, held_out) for label in range(classes)}


def _of_class(label: int, generated: Seen, held_out: Seen) -> dict[str, float]:
    own, real = generated.labels == label, held_out.labels == label
    return {
        "images": int(own.sum()),
        "agreement": _mean(generated.right[own]),
        "probability": _mean(generated.probability[own]),
        "judge_accuracy": _mean(held_out.right[real]),
        "nearest": _median(generated.distance[own]),
        "nearest_held_out": _median(held_out.distance[real]),
    }


def report_table(whole: dict[str, Any], classes: dict[str, dict[str, float]]) -> pd.DataFrame:
    """A line for all images, then one for each class; empty where something is not told of a class."""
    return pd.DataFrame([{"class": "all", **whole}, *({"class": label, **found} for label, found in classes.items())])


def _evenly(features: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """(``count``, D) of (N, D) features, evenly spaced: where rows are sorted by class, the first lack some classes."""
    return features[np.arange(count) * len(features) // count]


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _median(values: npt.NDArray[Any]) -> float:
    return float(np.median(values)) if len(values) else float("nan")
