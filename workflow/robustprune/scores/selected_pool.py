"""The images of each class that a classifier is surest of (Wang et al. 2023)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.settings import Exact
from robustprune.core.stage import PoolId, ScoreId
from robustprune.core.stage_file import read_spec
from robustprune.images.pool import PoolStage, Stages
from robustprune.scores.score import ScoreStage

if TYPE_CHECKING:
    from robustprune.images.drawing import Rows
    from robustprune.images.pool import AnyLabels


DEFINITION = {"pools.selected": 1}


class SelectedPoolStage(PoolStage):
    """The images of each class of a pool that a classifier is surest of, by its loss; they stay in their pool."""

    resources = "ingest"
    uses_device = False
    origin: Literal["selected"] = "selected"
    pool: PoolId
    score: ScoreId
    keep: Exact = Field(gt=0, le=1)

    @property
    def slug(self) -> str:
        return f"{self.dataset}-selected"

    @property
    def parent(self) -> str:
        """The pool that it is a part of."""
        return self.pool

    def planned_count(self, stages: Stages) -> int | None:
        """Return the number of images, where it is known how many each class has before."""
        counts = cast(PoolStage, stages[self.pool]).planned_class_counts()
        return None if counts is None else sum(map(self.kept, counts))

    def kept(self, images: int) -> int:
        """Return the number kept of a class: the share, rounded, and at least one where there is any."""
        return max(math.floor(images * self.keep + Fraction(1, 2)), min(images, 1))

    def run(self, job: Job) -> dict[str, Any]:
        """Choose the rows and publish the view.

        Returns:
            what ``publish_view`` does, and of each class the images there were, those kept, and the lowest probability
            of the label that one of these was given.

        Raises:
            UserError: when the pool is not readable, or the score is not a classifier's loss on its images as they are.
        """
        from robustprune.images.subpools import open_parent, publish_view
        from robustprune.scores.files import read_score

        parent = open_parent(job, self.pool)
        directory = job.upstream("scores", self.score)
        scored = read_spec(directory)
        if not (isinstance(scored, ScoreStage) and scored.is_clean_loss and scored.pool == self.pool):
            raise UserError(
                f"{self.score} is not a loss of the images of {self.pool} as they are, which selection goes by"
            )
        losses, _ = read_score(directory, pool_digest=parent.pool.info.digest)
        labels = np.asarray(parent.pool.labels)
        rows = surest_rows(losses, labels, self)
        source = f"of {self.pool} the {float(self.keep):.4g} of each class that {scored.classifier} is surest of"
        selected = [*parent.pool.info.selected, source]
        facts = publish_view(job, [parent.member()], labels[rows], parent.digests[rows], rows, self, source, selected)
        return {**facts, "selection": _by_class(losses, labels, rows, self.classes)}


def surest_rows(losses: npt.NDArray[np.floating[Any]], labels: AnyLabels, spec: SelectedPoolStage) -> Rows:
    """Return each class's rows of the lowest losses, as many as the spec keeps; of equal ones the first rows.

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
