"""The images of each class that a classifier is surest of (Wang et al. 2023)."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.stage_file import read_spec
from robustprune.images.drawing import Rows
from robustprune.images.pool import AnyLabels
from robustprune.images.specs import SelectedPoolStage
from robustprune.images.subpools import open_parent, publish_view
from robustprune.scores.files import read_score
from robustprune.scores.specs import LossScoreStage

DEFINITION = {"pools.selected": 1}


def run(job: Job, spec: SelectedPoolStage) -> dict[str, Any]:
    """Choose the rows and publish the view.

    Returns:
        what ``publish_view`` does, and of each class the images there were, those kept, and the lowest probability of
        the label that one of these was given.

    Raises:
        UserError: when the pool is not readable, or the score is not a classifier's loss on its images as they are.
    """
    parent = open_parent(job, spec.pool)
    directory = job.upstream("scores", spec.score)
    scored = read_spec(directory)
    if not isinstance(scored, LossScoreStage) or scored.attack is not None or scored.pool != spec.pool:
        raise UserError(f"{spec.score} is not a loss of the images of {spec.pool} as they are, which selection goes by")
    losses, _ = read_score(directory, pool_digest=parent.pool.info.digest)
    labels = np.asarray(parent.pool.labels)
    rows = surest_rows(losses, labels, spec)
    source = f"of {spec.pool} the {float(spec.keep):.4g} of each class that {scored.model} is surest of"
    selected = [*parent.pool.info.selected, source]
    facts = publish_view(job, [parent.member()], labels[rows], parent.digests[rows], rows, spec, source, selected)
    return {**facts, "selection": _by_class(losses, labels, rows, spec.classes)}


def surest_rows(losses: npt.NDArray[np.floating[Any]], labels: AnyLabels, spec: SelectedPoolStage) -> Rows:
    """Of each class as many as the spec keeps, those of the lowest losses; of equal ones the first rows.

    The cross-entropy is minus the logarithm of the label's probability, so they are those of the highest probability.

    Args:
        losses: (N,) of all rows.
        labels: (N,) of all rows.
        spec: how many are kept.

    Returns:
        rows, ascending.
    """
    chosen = []
    for label in range(spec.classes):
        rows = np.flatnonzero(labels == label)
        chosen.append(rows[np.argsort(losses[rows], kind="stable")[: spec.kept(len(rows))]])
    return np.sort(np.concatenate(chosen))


def _by_class(
    losses: npt.NDArray[np.floating[Any]], labels: AnyLabels, rows: Rows, classes: int
) -> dict[str, dict[str, float]]:
    found = {}
    for label in range(classes):
        kept = rows[labels[rows] == label]
        lowest = float(np.exp(-losses[kept].max())) if len(kept) else math.nan
        found[str(label)] = {"images": int((labels == label).sum()), "kept": len(kept), "lowest_probability": lowest}
    return found
