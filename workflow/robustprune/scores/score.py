"""Scores: one number for every image of a pool, one file per score.

To add one, write its file: a stage that measures it, and a function with the decorator ``@score`` that plans the stage
for a row. A score from training dynamics is a metric (``scores.metric``) and needs no stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from robustprune.core.declarations import Declarations, Named
from robustprune.core.stage import PoolId, Stage, slug_of
from robustprune.scores.metric import METRICS

if TYPE_CHECKING:
    from robustprune.experiments.row import Row
    from robustprune.planning.context import Context
    from robustprune.planning.plan import Plan

    PlanScore = Callable[[Context, Row, tuple[str, ...]], tuple[str, ...]]
    """Plans the stages that score each of some pools for a row and returns their ids."""

SCORES: Declarations[PlanScore] = Declarations("score", "robustprune.scores")
"""The planner of each score that is not a metric."""

ScoreName = Annotated[str, Named(SCORES, METRICS)]
"""A score that an experiment's row can prune by; see docs/scores.md."""


def score(name: str) -> Callable[[PlanScore], PlanScore]:
    """Declare a score that rows can prune by, and the function that plans its stages."""
    return partial(SCORES.declare, name)


Easy = Literal["high", "low"]


@dataclass(frozen=True)
class Meaning:
    """Meaning of a score."""

    column: str  # the leading column, which is used for pruning
    unit: str  # what a value of 1 is
    easy: Easy  # the end at which the easy images are, for strategies that drop easy or difficult images
    sign: str  # the same in words, and the meaning of a negative value


class ScoreStage(Stage):
    """A score of every image of ``pool``: the kind of stage that teams share."""

    sentence = "a number for each image of a pool, such as its margin under a model"
    row_bytes: ClassVar[int] = 0  # bytes per image in the store; 0 for stages whose size is not counted
    kind: Literal["scores"] = "scores"
    pool: PoolId
    score: str

    @property
    def slug(self) -> str:
        return f"{self.score.replace('_', '-')}-{slug_of(self.pool)}"

    def bytes_left(self, plan: Plan, parameters: Mapping[str, int]) -> int:
        """Return the size of the store."""
        return plan.count(self.pool) * self.row_bytes if self.row_bytes else 0

    @property
    def is_clean_loss(self) -> bool:
        """True for the cross-entropy of clean images, which selections use."""
        return False

    @property
    def classifier(self) -> str | None:
        """The model that gives a loss; None for other scores."""
        return None

    @property
    def upstream_of_pull(self) -> tuple[tuple[str, str], ...]:
        """(kind, id) of each stage that is read when the score is pulled instead of computed."""
        return (("pools", self.pool),)
