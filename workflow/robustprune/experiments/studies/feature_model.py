"""The stage that simulates the feature model: what its formulas are checked against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from robustprune.core.files import replacing
from robustprune.core.job import Job
from robustprune.core.paths import COUNTS_FILE
from robustprune.core.stage import Stage
from robustprune.experiments.studies.settings import FeatureModelSettings

if TYPE_CHECKING:
    from robustprune.experiments.studies.feature_formulas import End, Floats


DEFINITION = {"feature_model.points": 1, "feature_model.stage": 1}


class Points(NamedTuple):
    """Points of the model.

    Attributes:
        robust: (N,) bool, whether a point is of D_robust.
        features: (N, 1 + d) float64, y x; the robust feature first.
    """

    robust: npt.NDArray[np.bool_]
    features: Floats

    def at(self, rows: npt.NDArray[np.int64]) -> Points:
        """Some of them."""
        return Points(self.robust[rows], self.features[rows])


ATTACKS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)  # epsilon, in units of eta

ROBUST_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)

PRUNED_SHARES = (0.0, 0.05, 0.1, 0.13, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6)


class Count(NamedTuple):
    """A row of counts.parquet: how many of some points are so.

    Attributes:
        quantity: attacked (accuracy over ``x`` = epsilon / eta), mixed (of the robust classifier, over the share of
            D_robust), composition (share of D_robust among what is left, over the share pruned), clean or strong
            (accuracy of the classifier trained on what is left, without an attack and at 2 eta).
        series: which classifier, or which end is pruned.
        x: place on the axis.
        trial: number of the trial.
        hits: points that are so.
        points: of so many.
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
        """Publish ``counts.parquet``; returns how many points were drawn for a count and classifiers trained."""
        import pandas as pd
        from threadpoolctl import threadpool_limits

        from robustprune.experiments.studies.feature_formulas import End

        model = self.settings
        with threadpool_limits(limits=1, user_api="blas"):  # products too small to share
            rows = [*_attacked(model), *_mixed(model), *_pruned(model)]
        with replacing(job.partial / COUNTS_FILE) as temporary:
            pd.DataFrame(rows).to_parquet(temporary, index=False)
        job.publish(COUNTS_FILE)
        trained = model.trials * len(PRUNED_SHARES) * len(get_args(End))
        return {"test_points": model.test_points, "trained": trained}


def draw_points(random: np.random.Generator, count: int, model: FeatureModelSettings) -> Points:
    """``count`` points (Kaufmann et al. v2, Eqs. 2 and 3)."""
    robust = random.random(count) < model.robust_share
    agreement = np.where(robust, model.robust_agreement, model.fragile_agreement)
    first = np.where(random.random(count) < agreement, 1.0, -1.0)
    fragile = random.normal(model.mean, 1, size=(count, model.fragile_features))
    return Points(robust, np.column_stack([first, fragile]))


def prune(random: np.random.Generator, points: Points, share: float, end: End) -> Points:
    """What is left without a share of the points, those of the highest or lowest loss (y x_1 - 1)^2; ties by lot."""
    loss = (points.features[:, 0] - 1) ** 2
    shuffled = random.permutation(len(loss))
    ordered = shuffled[np.argsort(loss[shuffled] if end == "low_loss" else -loss[shuffled], kind="stable")]
    return points.at(np.sort(ordered[round(share * len(loss)) :]))


def count_right(features: Floats, weights: Floats, epsilon: float) -> int:
    """How many points sign(w.x) has right after the worst perturbation, -epsilon sign(w) on y x."""
    return int((features @ weights - epsilon * np.abs(weights).sum() > 0).sum())


def _random(model: FeatureModelSettings, *purpose: str | int) -> np.random.Generator:
    from robustprune.core.randomness import derive_seed

    return np.random.default_rng(derive_seed(model.seed, *purpose))


def _attacked(model: FeatureModelSettings) -> Iterator[Count]:
    """Accuracy of the paper's two classifiers, for each attack on points of its own."""
    from robustprune.experiments.studies.feature_formulas import fragile_classifier, robust_classifier

    classifiers = {"robust": robust_classifier(model), "fragile": fragile_classifier(model)}
    for series, weights in classifiers.items():
        for attack in ATTACKS:
            points = draw_points(_random(model, "attacked", series, str(attack)), model.test_points, model)
            right = count_right(points.features, weights, attack * model.mean)
            yield Count("attacked", series, attack, 0, right, model.test_points)


def _mixed(model: FeatureModelSettings) -> Iterator[Count]:
    """Accuracy of the robust classifier, for each share of D_robust."""
    from robustprune.experiments.studies.feature_formulas import STRONG, robust_classifier

    for share in ROBUST_SHARES:
        mixture = model.model_copy(update={"robust_share": share})
        points = draw_points(_random(model, "mixed", str(share)), model.test_points, mixture)
        right = count_right(points.features, robust_classifier(model), STRONG * model.mean)
        yield Count("mixed", "robust", share, 0, right, model.test_points)


def _pruned(model: FeatureModelSettings) -> Iterator[Count]:
    """What is left of the training points, and what a classifier learns from it."""
    from robustprune.experiments.studies.feature_formulas import End

    for trial in range(model.trials):
        points = draw_points(_random(model, "training", trial), model.training_points, model)
        test = draw_points(_random(model, "test", trial), model.test_points, model)
        for end in get_args(End):
            for share in PRUNED_SHARES:
                left = prune(_random(model, "pruning", trial), points, share, end)
                yield Count("composition", end, share, trial, int(left.robust.sum()), len(left.robust))
                yield from _trained(model, left, test, Count("", end, share, trial, 0, len(test.robust)))


def _trained(model: FeatureModelSettings, left: Points, test: Points, place: Count) -> Iterator[Count]:
    from robustprune.experiments.studies.feature_formulas import STRONG
    from robustprune.experiments.studies.student import train_student

    weights = train_student(left.features, model.training_attack * model.mean).weights
    for quantity, attack in (("clean", 0.0), ("strong", STRONG)):
        yield place._replace(quantity=quantity, hits=count_right(test.features, weights, attack * model.mean))
