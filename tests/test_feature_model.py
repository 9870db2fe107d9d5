"""Kaufmann's feature model: its formulas against closed forms of others, and against counting."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy import stats

from made_up import read_figure
from robustprune.core.job import Job
from robustprune.core.stage_file import write_spec
from robustprune.experiments.figures.feature_model_accuracy import FeatureModelAccuracyStage, compare
from robustprune.experiments.studies.feature_formulas import (
    End,
    accuracy,
    agreement_left,
    fragile_classifier,
    robust_classifier,
    robust_share_left,
    trained_classifier,
)
from robustprune.experiments.studies.feature_model import (
    FeatureModelSettings,
    FeatureModelStage,
    count_right,
    draw_points,
    prune,
)

MODEL = FeatureModelSettings()
SMALL = FeatureModelSettings(fragile_features=40, training_points=400, test_points=2000, trials=2)
POINTS = draw_points(np.random.default_rng(0), 40_000, MODEL)


def within(hits: int, points: int, share: float) -> bool:
    """True if a share is in the 99.9 % interval of a count."""
    interval = stats.binomtest(hits, points).proportion_ci(0.999, method="exact")
    return bool(interval.low <= share <= interval.high)


def test_points_have_the_probabilities_that_are_printed() -> None:
    agree = POINTS.features[:, 0] == 1
    robust = int(POINTS.robust.sum())
    assert set(np.unique(POINTS.features[:, 0])) == {-1.0, 1.0}
    assert within(robust, len(agree), MODEL.robust_share)
    assert within(int(agree[POINTS.robust].sum()), robust, MODEL.robust_agreement)
    assert within(int(agree[~POINTS.robust].sum()), len(agree) - robust, MODEL.fragile_agreement)
    fragile = POINTS.features[:, 1:]
    assert stats.kstest(fragile[:500].ravel(), stats.norm(3 / np.sqrt(100), 1).cdf).pvalue > 0.001


def test_the_robust_classifier_is_right_as_derived_and_not_as_printed() -> None:
    right = count_right(POINTS.features, robust_classifier(MODEL), 2 * MODEL.mean)
    assert within(right, len(POINTS.robust), 0.7 * 0.95 + 0.3 * 0.65)
    assert not within(right, len(POINTS.robust), MODEL.printed_agreement)
    assert MODEL.printed_agreement == pytest.approx(0.7 * 0.65 + 0.3 * 0.95)


def test_the_fragile_classifier_is_right_where_the_paper_says() -> None:
    weights = fragile_classifier(MODEL)
    assert accuracy(weights, 0, MODEL) == pytest.approx(stats.norm.cdf(3))
    assert accuracy(weights, MODEL.mean, MODEL) == pytest.approx(0.5)
    assert accuracy(weights, 2 * MODEL.mean, MODEL) == pytest.approx(stats.norm.cdf(-3))
    assert accuracy(weights, 2 * MODEL.mean, MODEL) < 0.01 < 0.99 < accuracy(weights, 0, MODEL)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.3])
def test_accuracy_is_what_counting_gives_for_any_weights(epsilon: float) -> None:
    weights = np.random.default_rng(1).normal(0.3, 0.3, 1 + MODEL.fragile_features)
    weights[0] = 3
    right = count_right(POINTS.features, weights, epsilon)
    attacked = POINTS.features - epsilon * np.sign(weights)
    assert right == int((attacked @ weights > 0).sum())
    assert within(right, len(POINTS.robust), accuracy(weights, epsilon, MODEL))


def test_no_perturbation_is_worse_than_the_one_that_is_counted() -> None:
    weights, random = np.random.default_rng(1).normal(size=1 + MODEL.fragile_features), np.random.default_rng(2)
    worst = count_right(POINTS.features[:500], weights, 0.2)
    for _ in range(50):
        moved = POINTS.features[:500] + random.uniform(-0.2, 0.2, (500, len(weights)))
        assert (moved @ weights > 0).sum() >= worst


@pytest.mark.parametrize("end", ["high_loss", "low_loss"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_what_is_left_is_what_pruning_leaves(end: End, share: float) -> None:
    left = prune(np.random.default_rng(3), POINTS, share, end)
    count = len(left.robust)
    assert count == round((1 - share) * len(POINTS.robust))
    assert left.robust.mean() == pytest.approx(robust_share_left(share, end, MODEL), abs=0.015)
    assert (left.features[:, 0] == 1).mean() == pytest.approx(agreement_left(share, end, MODEL), abs=0.015)


def test_once_the_wrong_ones_are_gone_the_rest_is_as_bayes_says() -> None:
    bayes = 0.7 * 0.95 / 0.86
    assert robust_share_left(0.14, "high_loss", MODEL) == pytest.approx(bayes)
    assert robust_share_left(0.5, "high_loss", MODEL) == pytest.approx(bayes)
    assert agreement_left(0.14, "high_loss", MODEL) == pytest.approx(1)
    assert robust_share_left(0.0, "low_loss", MODEL) == pytest.approx(0.7)
    assert robust_share_left(0.86, "low_loss", MODEL) == pytest.approx(0.7 * 0.05 / 0.14)
    assert agreement_left(0.9, "low_loss", MODEL) == pytest.approx(0)


def test_without_an_attack_the_trained_classifier_is_the_likelihood_ratio() -> None:
    first, *fragile = trained_classifier(0.8, 0.0, MODEL)
    assert first == pytest.approx(np.log(0.8 / 0.2), rel=1e-3)
    assert fragile == pytest.approx(np.full(100, 2 * MODEL.mean), rel=1e-3)


def test_under_attack_the_trained_classifier_has_the_least_loss_of_points_that_are_drawn() -> None:
    epsilon = 0.7 * MODEL.mean
    best = trained_classifier(MODEL.agreement, epsilon, MODEL)

    def loss(weights: Any) -> float:
        margins = POINTS.features @ weights - epsilon * np.abs(weights).sum()
        return float(np.logaddexp(0, -margins).mean())

    for first, fragile in ((1.2, 1), (0.8, 1), (1, 1.2), (1, 0.8)):
        assert loss(best) < loss(best * np.append(first, np.full(100, fragile)))
    nothing = trained_classifier(MODEL.agreement, MODEL.mean, MODEL)
    assert np.abs(nothing[1:]).max() < 1e-4 * nothing[0]  # at eta fragile features are worth nothing
    assert (trained_classifier(1, epsilon, MODEL) == robust_classifier(MODEL)).all()


def test_a_robust_feature_that_is_more_often_wrong_is_learnt_the_other_way_round() -> None:
    first, *fragile = trained_classifier(0.2, 0.0, MODEL)
    assert first == pytest.approx(np.log(0.2 / 0.8), rel=1e-3)
    assert fragile == pytest.approx(np.full(100, 2 * MODEL.mean), rel=1e-3)
    assert (trained_classifier(0, MODEL.mean, MODEL) == -robust_classifier(MODEL)).all()


def test_settings_that_make_no_such_model_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"fragile_agreement = 0.9 should be below robust_agreement = 0.8"):
        FeatureModelSettings(fragile_agreement=0.9, robust_agreement=0.8)


def test_a_figure_has_formula_and_simulation_side_by_side(make_job: Callable[..., Job]) -> None:
    study = FeatureModelStage(settings=SMALL)
    job = make_job("studies", study.id)
    write_spec(job.directory / "spec.json", study)
    study.run(job)
    spec = FeatureModelAccuracyStage(name="kaufmann_v2.feature_model", title="Features", study=study.id)
    drawn = make_job("figures", spec.id)
    spec.run(drawn)
    picture, data, caption = read_figure(drawn.directory)
    counts = pd.read_parquet(job.directory / "counts.parquet")
    assert len(data) == len(counts.groupby(["quantity", "series", "x"])) == 2 * 7 + 5 + 3 * 2 * 10
    direct = data[data["quantity"].isin(["attacked", "mixed"])]
    assert ((direct["low"] <= direct["formula"]) & (direct["formula"] <= direct["high"])).mean() > 0.8
    pd.testing.assert_frame_equal(compare(counts, SMALL), data)
    assert "share pruned" in picture
    assert "here 86.0% and not 74.0%: the two are swapped in print" in caption
    assert caption.count("Claimed:") == 3
