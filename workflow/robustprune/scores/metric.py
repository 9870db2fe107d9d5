"""Metrics: scores made from what trainings recorded of each image, one class per metric in ``scores.metrics``.

To add one, write its file: the class holds its settings, says what it reads, and computes the score. A score of its
own name for each training and trajectory that it is made from is a decorator on the class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

from pydantic import Field

from robustprune.core.declarations import Declarations, OneOf
from robustprune.core.settings import Settings

if TYPE_CHECKING:
    from robustprune.scores.files import Easy
    from robustprune.scores.trajectory import Recorded, Score, Trajectory, Value

METRICS: Declarations[type[Metric]] = Declarations("metric", "robustprune.scores.metrics")
"""The class behind each score that is made from recordings; ``facts`` has the training that is recorded."""

AnyMetricClass = TypeVar("AnyMetricClass", bound="type[Metric]")


def metric(name: str, *, recipe: str, trajectory: Trajectory = "clean") -> Callable[[AnyMetricClass], AnyMetricClass]:
    """Declare a score that rows can prune by.

    Args:
        name: the score's name.
        recipe: the training whose course is recorded.
        trajectory: which of the recorded trajectories is looked at.
    """
    del recipe, trajectory  # the plan reads them as text, without this module's imports

    def declare(metric_class: AnyMetricClass) -> AnyMetricClass:
        METRICS.declare(name, metric_class)
        return metric_class

    return declare


class Metric(Settings, ABC):
    """A score from recorded trajectories; the class attributes say what it means."""

    unit: ClassVar[str]  # what a value of 1 is, for people
    easy: ClassVar[Easy] = "low"  # the end at which the easy images are
    sign: ClassVar[str]  # what that end and the other mean, for people
    reads: ClassVar[Value]
    of_every_seed: ClassVar[bool] = False  # whether trainings of all seeds are recorded, else of the first

    metric: str = Field(description="the metric's own name")

    @abstractmethod
    def score(self, trainings: Sequence[Recorded]) -> Score:
        """Return the score of each image, each from its own trajectory: pools are scored in blocks of any size.

        Args:
            trainings: what was recorded of each training, one of them unless ``of_every_seed``.

        Returns:
            (N,) float32.
        """

    def trajectory(self, declared: Trajectory) -> Trajectory:
        """Return the trajectory to look at, where the decorator names ``declared``."""
        return declared

    def problem(self, epochs: int) -> str | None:
        """Say which setting does not go with that many recorded epochs; None where all do."""
        del epochs
        return None


AnyMetric = Annotated[Metric, OneOf(METRICS, "metric")]
