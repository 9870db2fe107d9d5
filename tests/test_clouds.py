"""The example in a plane: its clouds, its distances and its pruning, against what can be computed by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from made_up import read_figure
from robustprune.attacks.deepfool_settings import DeepFoolSettings
from robustprune.core.job import Job
from robustprune.core.stage_file import write_spec
from robustprune.experiments.figures.toy_boundaries import ToyBoundariesStage
from robustprune.experiments.studies import toy_2d
from robustprune.experiments.studies.toy_2d import (
    FIELD_FILE,
    GRID,
    MEASURES_FILE,
    POINTS_FILE,
    ToySettings,
    ToyStage,
    ToyTraining,
    attack,
    best_prediction,
    draw_clouds,
    kept_of,
    measure,
)
from robustprune.training import mid_training
from tiny import all_figures

SMALL = ToySettings(points=60, test_points=100, width=8, steps_before=10, steps_after=10, trials=2)


def line() -> nn.Module:
    """The best classifier of two clouds: logits -+ (x - 1/2)."""
    linear = nn.Linear(2, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
        linear.bias.copy_(torch.tensor([0.5, -0.5]))
    return nn.Sequential(nn.Flatten(), linear).eval()


def test_clouds_are_normal_within_the_square_and_the_line_is_wrong_as_often_as_it_must_be() -> None:
    settings = ToySettings(distance=0.3, spread=0.1)
    points, labels = draw_clouds(np.random.default_rng(0), 4000, settings)
    plane = points.reshape(-1, 2).numpy()
    assert ((plane >= 0) & (plane <= 1)).all()
    cut = stats.truncnorm(-3.5, 6.5, loc=0.35, scale=0.1)
    assert stats.kstest(plane[labels.numpy() == 0, 0], cut.cdf).pvalue > 0.001
    assert stats.kstest(plane[:, 1], stats.truncnorm(-5, 5, loc=0.5, scale=0.1).cdf).pvalue > 0.001
    wrong = int((best_prediction(points) != labels).sum())
    interval = stats.binomtest(wrong, 4000).proportion_ci(0.999)
    assert interval.low <= cut.sf(0.5) <= interval.high


def test_loss_and_distance_are_those_of_a_line() -> None:
    points, labels = draw_clouds(np.random.default_rng(1), 50, SMALL)
    attacked = points + 0.05
    measured = measure(line(), points, attacked, labels)
    assert measured.distance == pytest.approx(np.abs(points[:, 0, 0, 0].numpy() - 0.5), rel=0.05, abs=1e-4)
    beyond = attacked[:, 0, 0, 0].numpy() - 0.5
    gaps = np.where(labels.numpy() == 1, 2 * beyond, -2 * beyond)
    assert measured.loss == pytest.approx(np.logaddexp(0, -gaps), rel=1e-4)


def test_the_attack_moves_a_point_straight_to_the_line() -> None:
    points, labels = draw_clouds(np.random.default_rng(1), 50, SMALL)
    attacked = attack(line(), points, labels, SMALL, start=torch.zeros_like(points), steps=20, step=0.25)
    towards = torch.where(labels == 0, SMALL.epsilon, -SMALL.epsilon)
    expected = (points[:, 0, 0, 0] + towards).clamp(0, 1)
    assert attacked[:, 0, 0, 0].numpy() == pytest.approx(expected.numpy(), abs=1e-6)


@pytest.mark.parametrize(
    ("dropped", "gone"), [("low_distance", "nearest"), ("low_loss", "surest"), ("high_loss", "worst")]
)
def test_pruning_drops_the_end_it_names(dropped: Any, gone: str) -> None:
    points, labels = draw_clouds(np.random.default_rng(2), 50, SMALL)
    measured = measure(line(), points, points, labels)
    kept = kept_of(dropped, measured, labels, SMALL, trial=0)
    order = {"nearest": measured.distance, "surest": measured.loss, "worst": -measured.loss}[gone]
    assert kept.sum() == 30
    assert order[~kept].max() <= order[kept].min()


def test_losses_are_those_of_attacked_points() -> None:
    points, labels = draw_clouds(np.random.default_rng(3), 60, SMALL)
    training = ToyTraining(SMALL, 0, points, labels)
    training.network = line()  # type: ignore[assignment]
    clean = measure(line(), points, points, labels)
    assert (training.measured().loss >= clean.loss).all()
    assert training.measured().loss.mean() > clean.loss.mean() + 0.01
    assert np.array_equal(training.measured().loss, training.measured().loss)


@pytest.mark.parametrize("settings", [{"keep": 0.02}, {"keep": 0.99}])
def test_nothing_kept_or_dropped_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="should keep some and drop some"):
        ToySettings(points=20, **settings)


def test_a_training_goes_on_from_where_it_was_with_the_rest() -> None:
    points, labels = draw_clouds(np.random.default_rng(3), 60, SMALL)
    training = ToyTraining(SMALL, 0, points, labels)
    training.run(5)
    rest, kept = training.without("none", training.measured())
    assert kept.all()
    rest.run(5)
    whole = ToyTraining(SMALL, 0, points, labels)
    whole.run(10)
    for one, other in zip(rest.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(next(training.network.parameters()), next(whole.network.parameters()))


def test_a_figure_shows_points_and_boundary_and_what_changed(make_job: Callable[..., Job]) -> None:
    study = ToyStage(settings=SMALL)
    job = make_job("studies", study.id)
    write_spec(job.directory / "spec.json", study)
    assert study.run(job)["networks"] == 10
    points, field, measures = (
        pd.read_parquet(job.directory / name) for name in (POINTS_FILE, FIELD_FILE, MEASURES_FILE)
    )
    assert (len(points), len(field), len(measures)) == (60, GRID**2, 10)
    assert points["none"].all()
    assert (measures["robustness"] <= measures["accuracy"]).all()
    spec = ToyBoundariesStage(
        name="kaufmann_v2.figure1", title="Figure 1", claim="it is clearer", panels=("none", "low_distance"),
        study=study.id,
    )  # fmt: skip
    drawn = make_job("figures", spec.id)
    spec.run(drawn)
    picture, data, caption = read_figure(drawn.directory)
    assert list(data.columns) == ["x", "y", "label", "loss", "distance", "low_distance"]
    assert (~data["low_distance"]).sum() == 24
    assert "best boundary" in picture
    accuracy = measures[measures["dropped"] == "low_distance"]["accuracy"].mean()
    assert f"accuracy {100 * accuracy:.1f}" in caption
    assert "Against as many random points dropped, points near the boundary dropped" in caption


@pytest.mark.parametrize("preset", ["digits", "mnist", "cifar10"])
def test_figures_of_clouds_share_one_study_at_every_preset(preset: str) -> None:
    plan = all_figures(preset)
    stages = [plan.targets[f"results/{figure}.svg"] for figure in ("kaufmann_v1/figure6", "kaufmann_v2/figure1")]
    assert plan.upstream(stages[0]) == plan.upstream(stages[1])


def test_points_are_scored_as_images_are_in_the_middle_of_a_training() -> None:
    assert DeepFoolSettings(**toy_2d.DEEPFOOL) == mid_training.DEEPFOOL
    assert toy_2d.LONG_STEP == mid_training.LONG_STEP
