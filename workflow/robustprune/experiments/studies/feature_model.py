"""The simulation of the feature model, against which its formulas are checked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from robustprune.core.files import replacing
from robustprune.core.job import Job
from robustprune.core.settings import Settings
from robustprune.core.stage import Stage
from robustprune.experiments.studies.feature_formulas import STRONG, End, Floats, fragile_classifier, robust_classifier

if TYPE_CHECKING:
    import pandas as pd

DEFINITION = {"feature_model.points": 1, "feature_model.stage": 1}


class FeatureModelSettings(Settings):
    """Points of which a share has a reliable robust feature, and the simulation of such points.

    The paper gives no number but the mean of the fragile features, 3 / sqrt(d).
    """

    fragile_features: int = Field(
        100, ge=37, description="d; from 37 on an attack of 2 eta is smaller than the robust feature"
    )
    robust_share: float = Field(0.7, gt=0, lt=1, description="share of points of D_robust, p_R")
    robust_agreement: float = Field(
        0.95, gt=0.5, lt=1, description="how often the robust feature has the label's sign in D_robust, p_robust"
    )
    fragile_agreement: float = Field(0.65, gt=0.5, lt=1, description="the same in D_fragile, p_fragile")
    training_attack: float = Field(
        0.75, ge=0, description="size of the attack that classifiers are trained under, in units of eta"
    )
    training_points: int = Field(5000, ge=100, description="points that are pruned and trained on")
    test_points: int = Field(20000, ge=100, description="points that accuracies are counted on")
    trials: int = Field(20, ge=2, description="independent trainings of each point of a curve")
    seed: int = Field(0, ge=0, description="of all draws")

    @model_validator(mode="after")
    def _robust_points_agree_more(self) -> Self:
        if self.fragile_agreement >= self.robust_agreement:
            raise ValueError(
                f"fragile_agreement = {self.fragile_agreement} should be below robust_agreement = "
                f"{self.robust_agreement}"
            )
        return self

    @property
    def mean(self) -> float:
        """Mean of a fragile feature times the label, eta."""
        return 3 / math.sqrt(self.fragile_features)

    @property
    def agreement(self) -> float:
        """Share of all points whose robust feature has the sign of the label.

        By the law of total probability p_R p_robust + (1 - p_R) p_fragile; the paper prints p_fragile and p_robust
        swapped, by which the feature would be right less often the more reliable points there are.
        """
        return self.robust_share * self.robust_agreement + (1 - self.robust_share) * self.fragile_agreement

    @property
    def printed_agreement(self) -> float:
        """The same as the paper prints it."""
        return self.robust_share * self.fragile_agreement + (1 - self.robust_share) * self.robust_agreement

    def study(self) -> FeatureModelStage:
        """Return the stage that simulates this model."""
        return FeatureModelStage(settings=self)


class FeaturePoints(NamedTuple):
    """Points of the model.

    Attributes:
        robust: (N,) True for points of D_robust.
        features: (N, 1 + d) float64, y x; the robust feature first.
    """

    robust: npt.NDArray[np.bool_]
    features: Floats


COUNTS_FILE = "counts.parquet"
ATTACKS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)  # epsilon, in units of eta
ROBUST_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
PRUNED_SHARES = (0.0, 0.05, 0.1, 0.13, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6)


class Count(NamedTuple):
    """A row of counts.parquet: a number of points.

    Attributes:
        quantity: attacked (accuracy over ``x`` = epsilon / eta), mixed (of the robust classifier, over the share of
            D_robust), composition (share of D_robust among what is left, over the share pruned), clean or strong
            (accuracy of the classifier trained on what is left, without an attack and at 2 eta).
        series: the classifier, or the end that is pruned.
        x: place on the axis.
        hits: points that are right, or of D_robust, among all ``points``.
    """

    quantity: str
    series: str
    x: float
    trial: int
    hits: int
    points: int


class FeatureModelStage(Stage):
    """Points with a robust and with fragile features, pruned by loss (Kaufmann et al. v2, Appendix C)."""

    sentence = "small models, such as a perceptron and its teacher, that show what pruning does without images"
    uses_device = False
    kind: Literal["studies"] = "studies"
    study: Literal["feature_model"] = "feature_model"
    settings: FeatureModelSettings

    @property
    def slug(self) -> str:
        return "feature-model"

    def run(self, job: Job) -> dict[str, Any]:
        """Publish ``counts.parquet``, and return the numbers of points drawn for a count and of trained classifiers."""
        import pandas as pd
        from threadpoolctl import threadpool_limits

        model = self.settings
        with threadpool_limits(limits=1, user_api="blas"):  # products too small to share
            rows = [*_attacked(model), *_mixed(model), *_pruned(model)]
        with replacing(job.partial / COUNTS_FILE) as temporary:
            pd.DataFrame(rows).to_parquet(temporary, index=False)
        job.publish(COUNTS_FILE)
        trained = model.trials * len(PRUNED_SHARES) * len(get_args(End))
        return {"test_points": model.test_points, "trained": trained}

    def results(self, directory: Path) -> pd.DataFrame:
        """Return the counts that the stage has made: a ``Count`` a row."""
        import pandas as pd

        return pd.read_parquet(directory / COUNTS_FILE)


def draw_points(random: np.random.Generator, count: int, model: FeatureModelSettings) -> FeaturePoints:
    """Draw ``count`` points (Kaufmann et al. v2, Eqs. 2 and 3)."""
    robust = random.random(count) < model.robust_share
    agreement = np.where(robust, model.robust_agreement, model.fragile_agreement)
    first = np.where(random.random(count) < agreement, 1.0, -1.0)
    fragile = random.normal(model.mean, 1, size=(count, model.fragile_features))
    return FeaturePoints(robust, np.column_stack([first, fragile]))


def prune(random: np.random.Generator, points: FeaturePoints, share: float, end: End) -> FeaturePoints:
    """Drop a share of the points, those of the highest or lowest loss (y x_1 - 1)^2, with ties in random order."""
    loss = (points.features[:, 0] - 1) ** 2
    shuffled = random.permutation(len(loss))
    ordered = shuffled[np.argsort(loss[shuffled] if end == "low_loss" else -loss[shuffled], kind="stable")]
    left = np.sort(ordered[round(share * len(loss)) :])
    return FeaturePoints(points.robust[left], points.features[left])


def count_right(features: Floats, weights: Floats, epsilon: float) -> int:
    """Return the number of points that sign(w.x) has right after the worst perturbation, -epsilon sign(w) on y x."""
    return int((features @ weights - epsilon * np.abs(weights).sum() > 0).sum())


def _random(model: FeatureModelSettings, *purpose: str | int) -> np.random.Generator:
    from robustprune.core.randomness import derive_seed

    return np.random.default_rng(derive_seed(model.seed, *purpose))


def _attacked(model: FeatureModelSettings) -> Iterator[Count]:
    """Yield the accuracy of the paper's two classifiers, for each attack on newly drawn points."""
    for series, weights in (("robust", robust_classifier(model)), ("fragile", fragile_classifier(model))):
        for attack in ATTACKS:
            points = draw_points(_random(model, "attacked", series, str(attack)), model.test_points, model)
            right = count_right(points.features, weights, attack * model.mean)
            yield Count("attacked", series, attack, 0, right, model.test_points)


def _mixed(model: FeatureModelSettings) -> Iterator[Count]:
    """Yield the accuracy of the robust classifier, for each share of D_robust."""
    for share in ROBUST_SHARES:
        mixture = model.model_copy(update={"robust_share": share})
        points = draw_points(_random(model, "mixed", str(share)), model.test_points, mixture)
        right = count_right(points.features, robust_classifier(model), STRONG * model.mean)
        yield Count("mixed", "robust", share, 0, right, model.test_points)


def _pruned(model: FeatureModelSettings) -> Iterator[Count]:
    """Yield the composition of pruned training points, and the accuracy of a classifier that is trained on them."""
    from robustprune.experiments.studies.student import train_student

    for trial in range(model.trials):
        points = draw_points(_random(model, "training", trial), model.training_points, model)
        test = draw_points(_random(model, "test", trial), model.test_points, model)
        for end in get_args(End):
            for share in PRUNED_SHARES:
                left = prune(_random(model, "pruning", trial), points, share, end)
                yield Count("composition", end, share, trial, int(left.robust.sum()), len(left.robust))
                weights = train_student(left.features, model.training_attack * model.mean).weights
                for quantity, attack in (("clean", 0.0), ("strong", STRONG)):
                    right = count_right(test.features, weights, attack * model.mean)
                    yield Count(quantity, end, share, trial, right, len(test.robust))
