"""Scores: what is measured of every image of a pool, one file per score.

To add one, write its file: a stage that measures it, and a function with the decorator ``@score`` that plans the stage
for a row. One that is made from what trainings record is a metric (``scores.metric``) and needs no stage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from robustprune.core.declarations import Declarations, Named
from robustprune.core.stage import PoolId, Stage
from robustprune.scores.metric import METRICS

if TYPE_CHECKING:
    from robustprune.experiments.row import Row
    from robustprune.planning.context import Context

    PlanScore = Callable[[Context, Row, tuple[str, ...]], tuple[str, ...]]
    """Plans the stages that score each of some pools for a row, and returns their ids."""

SCORES: Declarations[PlanScore] = Declarations("score", "robustprune.scores")
"""How each score is planned that is not made from recordings."""

ScoreName = Annotated[str, Named(SCORES, METRICS)]
"""What an experiment's row can prune by. Each is described in docs/scores.md."""


def score(name: str) -> Callable[[PlanScore], PlanScore]:
    """Declare a score that rows can prune by, and the function that plans its stages."""

    def declare(plan: PlanScore) -> PlanScore:
        return SCORES.declare(name, plan)

    return declare


class ScoreStage(Stage):
    """Something measured of every image of ``pool``: the kind of stage that teams share."""

    sentence = "a number for each image of a pool, such as its margin under a model"
    pool: PoolId

    @property
    def is_clean_loss(self) -> bool:
        """True for the cross-entropy at images as they are, which selections go by."""
        return False

    @property
    def classifier(self) -> str | None:
        """The model behind a loss; None for other scores."""
        return None

    @property
    def upstream_of_pull(self) -> tuple[tuple[str, str], ...]:
        """(kind, id) of each stage that is read when the score is pulled in place of being made."""
        return (("pools", self.pool),)
