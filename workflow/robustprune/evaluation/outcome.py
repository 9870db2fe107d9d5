"""What an evaluation leaves behind: a row for each test image, and the accuracies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.core.files import replacing, write_text
from robustprune.evaluation.summary import OUTCOME_FILE, SUMMARY_FILE, Summary
from robustprune.images.drawing import Rows, draw_of_each

if TYPE_CHECKING:
    from robustprune.core.rows import Columns
    from robustprune.images.pool import AnyLabels

SEED = 0  # for ever, so that all models and seeds are measured on the same images


def balanced_subset(labels: AnyLabels, count: int | None, *, classes: int) -> Rows:
    """Rows of a pool, as many of each class as can be; a smaller subset is part of a larger one.

    Where a class has fewer images, it has them all, and the others have more.

    Args:
        labels: (N,) of all images of the pool.
        count: images wanted; None, or as many as there are, for all.
        classes: number of classes.

    Returns:
        (min(count, N),) int64, ascending.
    """
    if count is None or count >= len(labels):
        return np.arange(len(labels))
    shares = even_shares(np.bincount(labels, minlength=classes), count)
    return draw_of_each(labels, shares, seed=SEED, origin="the test images")


def even_shares(images: npt.NDArray[np.int64], count: int) -> list[int]:
    """Return how many images of each class make ``count``: as equally as there are, the first classes one more.

    Args:
        images: (K,) of each class, at least ``count`` in all.
        count: images wanted.
    """
    most = min(int(images.max()), count)
    level = int(np.searchsorted([np.minimum(images, level).sum() for level in range(most + 1)], count))
    shares = np.minimum(images, max(level - 1, 0))
    larger = np.flatnonzero(images > shares)[: count - int(shares.sum())]
    shares[larger] += 1
    return [int(share) for share in shares]


@torch.no_grad()
def is_right(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """(N,) bool: whether the largest logit is the label's."""
    logits: Tensor = model(images)
    return logits.argmax(1) == labels


DEFINITION = {
    "evaluation.accuracy": 1,
    "evaluation.checks": 1,
    "evaluation.outcome": 2,
    "evaluation.subset": 1,
}
PASSES = 5
LARGEST_DIFFERENCE = 1e-4  # between logits, each image's brought to length 1 (the package's check_randomized)


def outcome_table(
    attack: str, rows: AnyLabels, labels: AnyLabels, columns: Columns, breakers: tuple[str, ...]
) -> pa.Table:
    """One row an image.

    Args:
        attack: name of the attack, ``clean`` for none.
        rows: (N,) rows of the test pool.
        labels: (N,) their labels.
        columns: ``clean`` and, under an attack, ``right`` and ``zero_gradient``: (N,) bool; ``broken_by`` where an
            attack is several: (N,) positions in ``breakers``, -1 where none of them broke a right prediction.
        breakers: names of those.

    Returns:
        index int64, label int16, clean bool; ``attack`` bool, true where the image is right under it; zero_gradient
        bool; broken_by string or null.
    """
    table = {"index": pa.array(rows, pa.int64()), "label": pa.array(labels, pa.int16())}
    names = {"clean": "clean", "right": attack, "zero_gradient": "zero_gradient"}
    table |= {names[key]: pa.array(columns[key], pa.bool_()) for key in names if key in columns}
    if "broken_by" in columns:
        named = [breakers[position] if position >= 0 else None for position in columns["broken_by"]]
        table["broken_by"] = pa.array(named, pa.string())
    return pa.table(table)


def summarise(attack: str, columns: Columns, breakers: tuple[str, ...], *, random: bool) -> Summary:
    """Accuracies of ``outcome_table``'s columns, and what makes them doubtful.

    Returns:
        for ``clean`` and ``attack``: accuracy in [0, 1], number of images, and the binomial standard error
        sqrt(p (1 - p) / n); for the attack also zero_gradients (images without a gradient), random (whether the model
        answers at random) and, where Square is one of ``breakers``, square_gain (share of the images it alone broke).
    """
    summary: Summary = {"clean": _accuracy(columns["clean"])}
    if "right" not in columns:
        return summary
    doubts: dict[str, Any] = {"zero_gradients": int(columns["zero_gradient"].sum()), "random": random}
    if "square" in breakers:
        doubts["square_gain"] = float((columns["broken_by"] == breakers.index("square")).mean())
    return {**summary, attack: {**_accuracy(columns["right"]), **doubts}}


def _accuracy(right: npt.NDArray[np.bool_]) -> dict[str, float]:
    accuracy, images = float(right.mean()), len(right)
    return {"accuracy": accuracy, "images": images, "standard_error": (accuracy * (1 - accuracy) / images) ** 0.5}


def write_outcome(directory: Path, table: pa.Table, summary: Summary) -> None:
    """Write outcome.parquet and summary.json into ``directory``."""
    with replacing(directory / OUTCOME_FILE) as temporary:
        pq.write_table(table, temporary)
    write_text(directory / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")


@torch.no_grad()
def answers_at_random(model: nn.Module, images: Tensor) -> bool:
    """Return True if the logits of the same images differ from one pass to the next, so that attacks chase noise."""
    passes = torch.stack([F.normalize(model(images), dim=1) for _ in range(PASSES)])
    return bool((passes.amax(0) - passes.amin(0)).norm(dim=1).max() > LARGEST_DIFFERENCE)
