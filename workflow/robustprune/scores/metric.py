"""Metrics: scores made from what trainings recorded of each image after each epoch, one per file in ``scores.metrics``.

To add one, write its file: a class with the metric's settings and a method that computes the score. Each ``@metric`` on
the class declares one score and the training and trajectory that it is computed from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.core.declarations import Declarations, OneOf
from robustprune.core.settings import Settings

if TYPE_CHECKING:
    from robustprune.scores.score import Easy

METRICS: Declarations[type[Metric]] = Declarations("metric", "robustprune.scores.metrics")
"""The class of each score that is made from recordings; ``facts`` has the recorded training."""

Trajectory = Literal["clean", "adversarial", "clean_averaged", "adversarial_averaged"]
"""What is recorded after an epoch: predictions for clean or attacked images, by the raw or the averaged weights."""

Value = Literal["confidence", "error", "correct"]
"""The label's probability, the L2 norm of softmax - one-hot label, and whether the largest logit is the label's."""

Score = npt.NDArray[np.float32]
"""(N,), one number per image."""

AnyMetricClass = TypeVar("AnyMetricClass", bound="type[Metric]")


class Recorded(NamedTuple):
    """One value of N images at the T recorded epochs of one training."""

    values: npt.NDArray[Any]  # (T, N) float16 for confidence and error, bool for correct
    after: npt.NDArray[np.int64]  # (T,) number of finished epochs at each recording


def evenly_spaced(total: int, count: int) -> tuple[int, ...]:
    """Return ``count`` of the numbers 1 to ``total``, evenly spaced, ending with ``total``. ValueError for too many."""
    if count > total:
        raise ValueError(f"there are no {count} different numbers from 1 to {total}")
    return tuple((position + 1) * total // count for position in range(count))


def metric(name: str, *, recipe: str, trajectory: Trajectory = "clean") -> Callable[[AnyMetricClass], AnyMetricClass]:
    """Declare a score from the recorded ``trajectory`` of trainings by ``recipe``."""
    del recipe, trajectory  # the plan reads them as text, without this module's imports

    def declare(metric_class: AnyMetricClass) -> AnyMetricClass:
        METRICS.declare(name, metric_class)
        return metric_class

    return declare


class Metric(Settings, ABC):
    """A score from recorded trajectories; the class attributes describe it."""

    unit: ClassVar[str]  # what a value of 1 is, for people
    easy: ClassVar[Easy] = "low"  # the end at which the easy images are
    sign: ClassVar[str]  # what that end and the other mean, for people
    reads: ClassVar[Value]
    of_every_seed: ClassVar[bool] = False  # True if trainings of all seeds are recorded, False for the first seed

    metric: str = Field(description="name of the metric")

    @abstractmethod
    def score(self, trainings: Sequence[Recorded]) -> Score:
        """Return the (N,) float32 score of each image, computed from its values alone: pools are scored in blocks.

        ``trainings`` has one entry unless ``of_every_seed``.
        """

    def trajectory(self, declared: Trajectory) -> Trajectory:
        """Return the trajectory to read; the decorator names ``declared``."""
        return declared

    def problem(self, epochs: int) -> str | None:
        """Return which setting does not fit that many recorded epochs; None if all do."""
        return None


AnyMetric = Annotated[Metric, OneOf(METRICS, "metric")]
