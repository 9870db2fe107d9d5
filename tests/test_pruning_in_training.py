"""Pruning while a model is trained: in the middle, and batch by batch with margins taken along the attack."""

import re
import shutil
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

import noise
from noise import finish, kept_of, write_noise
from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.job import run_stage
from robustprune.core.paths import MID_TRAINING_FILE
from robustprune.core.record import read_record
from robustprune.core.sample_noise import per_sample
from robustprune.core.yaml_files import merge
from robustprune.experiments.papers import load_experiments
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.images.pool import Member
from robustprune.networks.batchnorm import frozen_statistics
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.pruning.manifest import read_metadata
from robustprune.training.fit import Training
from robustprune.training.mid_training import CHOICE_FILE, MidTraining, _write
from robustprune.training.model import ModelStage
from robustprune.training.online import OnlinePuma
from robustprune.training.recipes.base import AnyRecipe
from robustprune.training.recipes.rs_fgsm import RsFgsmRecipe
from robustprune.training.recipes.trades import TradesRecipe
from robustprune.training.trainset import KeptImages
from tiny import TINY, run_upstream, stage_of

RS_FGSM = RsFgsmRecipe(
    epochs=4,
    epoch_images=None,
    batch_size=10,
    optimizer="adam",
    learning_rate=5e-3,
    weight_decay=0,
    schedule="piecewise_linear",
    clip_start=False,
)
TRADES = TradesRecipe.model_validate(
    {"epochs": 3, "epoch_images": 30, "batch_size": 10, "step_size": 0.05, "synthetic_fraction": 0, "attack_steps": 2}
)


def training(folder: Path, recipe: AnyRecipe, **how: Any) -> Training:
    return noise.training(folder / "run", recipe, kept_of(write_noise(folder / "pool")), **how)


def stop_at(trained: Training, step: int) -> Training:
    while trained.step < step:
        trained.one_step()
    return trained


def choice_of(trained: Training) -> pd.DataFrame:
    return pd.read_parquet(trained.job.partial / CHOICE_FILE)


def assert_resumes(folder: Path, recipe: AnyRecipe, stop_after: int, **how: Any) -> None:
    """A training that goes on from what a killed one left in ``partial/`` ends in the bits of one without a break."""
    expected = finish(training(folder / "unbroken", recipe, **how))
    first = stop_at(training(folder / "first", recipe, **how), stop_after)
    first.save()
    second = training(folder / "second", recipe, **how)
    shutil.copytree(first.job.partial, second.job.partial, dirs_exist_ok=True)
    second._resume()
    found = finish(second)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


MIDWAY = [
    MidTraining(keep=0.6, strategy="low_distance"),
    MidTraining(keep=0.35, strategy="low_high_distance", at="clean", after_epoch=2),
    MidTraining(keep=0.6, strategy="high_distance", score="deepfool", at="clean"),
    MidTraining(keep=0.6, strategy="random"),
]


@pytest.mark.parametrize("midway", MIDWAY, ids=lambda midway: f"{midway.strategy}-{midway.score}")
def test_after_its_epoch_a_training_goes_on_with_the_share_kept(midway: MidTraining, tmp_path: Path) -> None:
    trained = training(tmp_path, RS_FGSM, mid_training=midway)
    drawn: list[list[int]] = [[], [], [], []]
    while trained.step < trained.total:
        position = trained.clock.position(trained.step)
        trained.one_step()
        drawn[position.epoch] += trained.kept[0].rows[trained.sampler.real_positions(position).numpy()].tolist()
    table = choice_of(trained)
    assert table["index"].tolist() == kept_of(write_noise(tmp_path / "again")).rows.tolist()
    left = round(midway.keep * 40)
    assert [len(rows) for rows in drawn] == [40] * midway.after_epoch + [left] * (4 - midway.after_epoch)
    for epoch, rows in enumerate(drawn):
        expected = table["index"] if epoch < midway.after_epoch else table["index"][table["kept"]]
        assert set(rows) == set(expected)
    assert trained.history[-1]["learning_rate"] == 0  # the schedule went its whole way
    assert trained.model.training


def test_distances_may_leave_the_pixel_range(tmp_path: Path) -> None:
    """Kaufmann et al.'s text does not clip (papers.md, K4)."""
    scores = {}
    for box in (True, False):
        midway = MidTraining(keep=0.6, strategy="high_distance", score="deepfool", box=box)
        trained = training(tmp_path / str(box), RS_FGSM, mid_training=midway)
        scores[box] = choice_of(stop_at(trained, trained.prune_at + 1))["score"]
    assert np.isfinite(scores[False]).all()
    assert (scores[False] != scores[True]).any()
    assert "box" not in MidTraining(keep=0.6, strategy="high_distance", score="deepfool").model_dump()
    with pytest.raises(ValidationError, match="box = false"):
        MidTraining(keep=0.6, strategy="high_distance", box=False)


def test_a_member_of_which_pruning_leaves_nothing_is_named(tmp_path: Path) -> None:
    midway = MidTraining(keep=0.5, strategy="random")
    trained = training(tmp_path, RS_FGSM, mid_training=midway)
    spec = trained.spec.model_copy(update={"synthetic": "noise-union-0123456789"})
    whole = kept_of(write_noise(tmp_path / "union"))
    members = tuple(Member(pool="p", digest="", count=30, share=Fraction(1, 2)) for _ in range(2))
    info = whole.pool.info.model_copy(update={"members": members})
    kept = [*trained.kept, KeptImages(replace(whole.pool, info=info), whole.rows, whole.epsilon)]
    _write(trained.job.partial / CHOICE_FILE, spec, kept, None, np.arange(60))
    says = r"no image of one of the pools in noise-union-0123456789 is left .*; raise mid_training.keep = 0.5"
    with pytest.raises(UserError, match=says):
        midway.prune(trained.job, spec, trained.model, kept)


def test_what_is_chosen_takes_little_memory_for_each_image(tmp_path: Path) -> None:
    trained = training(tmp_path, RS_FGSM)
    rows, midway = np.arange(100_000), MidTraining(keep=0.5, strategy="random")
    kept = [KeptImages(trained.kept[0].pool, rows, np.zeros(len(rows), np.float32))]
    tracemalloc.start()
    _write(trained.job.partial / CHOICE_FILE, trained.spec, kept, None, rows[::2])
    (left,) = midway.prune(trained.job, trained.spec, trained.model, kept)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (left.rows == rows[::2]).all()
    assert peak < 80 * len(rows)  # bytes; as text the name of its pool would be another hundred


def test_the_scores_are_those_of_the_model_at_that_point_and_the_strategy_is_the_papers(tmp_path: Path) -> None:
    """Low distance: the images of high loss go; scored in eval mode, un-augmented, at the end of an RS-FGSM step."""
    trained = training(tmp_path, RS_FGSM, mid_training=MidTraining(keep=0.6, strategy="low_distance", at="clean"))
    model = stop_at(trained, trained.prune_at).model.eval()
    pixels, labels, _ = trained.kept[0].read(np.arange(40))
    with torch.no_grad():
        expected = F.cross_entropy(model(torch.tensor(pixels) / 255), torch.tensor(labels), reduction="none")
    model.train()
    trained.one_step()
    table = choice_of(trained)
    np.testing.assert_allclose(table["score"], expected, rtol=1e-5)
    assert table["score"][table["kept"]].max() < table["score"][~table["kept"]].min()


@pytest.mark.parametrize("clip_start", [False, True])
def test_the_step_before_scoring_is_the_recipes(clip_start: bool, tmp_path: Path) -> None:
    recipe = RS_FGSM.model_copy(update={"clip_start": clip_start, "step_scale": 0.5})
    trained = training(tmp_path, recipe, mid_training=MidTraining(keep=0.6, strategy="low_distance"))
    model = stop_at(trained, trained.prune_at).model.eval()
    kept = trained.kept[0]
    pixels, classes, _ = kept.read(np.arange(40))
    images, labels = torch.tensor(pixels) / 255, torch.tensor(classes)
    draw = per_sample("uniform", (1, 8, 8), torch.from_numpy(kept.rows), trained.spec.seed, "mid training")
    start = images + 0.1 * draw
    start = (start.clamp(0, 1) if clip_start else start).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(start), labels), start)
    attacked = (start.detach() + 0.05 * gradient.sign()).clamp(images - 0.1, images + 0.1).clamp(0, 1)
    with torch.no_grad():
        clean, expected = (F.cross_entropy(model(points), labels, reduction="none") for points in (images, attacked))
    assert (expected > clean).float().mean() > 0.95
    model.train()
    trained.one_step()
    np.testing.assert_allclose(choice_of(trained)["score"], expected, rtol=1e-5)


@pytest.mark.parametrize("stop_after", [3, 4, 5, 8], ids=lambda step: f"step{step}")
def test_a_pruned_training_goes_on_to_the_same_bits(stop_after: int, tmp_path: Path) -> None:
    midway = MidTraining(keep=0.6, strategy="low_distance")
    assert_resumes(tmp_path, RS_FGSM, stop_after, mid_training=midway)


@pytest.mark.parametrize("online", [OnlinePuma(), OnlinePuma(threshold=Fraction(1), warm_up_epochs=1)], ids=str)
def test_an_online_training_goes_on_to_the_same_bits(online: OnlinePuma, tmp_path: Path) -> None:
    assert_resumes(tmp_path, TRADES, 4, online=online)


class TwoSided(nn.Module):
    """Class 1 where w x > b, class 0 elsewhere."""

    def __init__(self, slope: Tensor, offset: float) -> None:
        super().__init__()
        self.slope, self.offset = slope, offset

    def forward(self, images: Tensor) -> Tensor:
        lead = images.flatten(1) @ self.slope - self.offset
        return torch.stack([-lead, lead], 1)


def test_margins_along_the_attack_are_those_of_a_linear_model() -> None:
    """Eq. 4: where the segment x + m (x' - x) crosses the border, clamped to [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    images = 0.4 + 0.2 * torch.rand(200, 1, 4, 4, generator=generator)
    slope = torch.randn(16, generator=generator)
    model = TwoSided(slope, float((images.flatten(1) @ slope).median()))
    labels = torch.randint(2, (200,), generator=generator)
    epsilon = 0.03
    direction = torch.where(labels == 1, -1.0, 1.0).view(-1, 1, 1, 1) * slope.sign().view(1, 1, 4, 4)
    attacked = images + epsilon * direction  # the worst perturbation
    lead = (images.flatten(1) @ slope - model.offset) * torch.where(labels == 1, 1.0, -1.0)
    exact = lead / (epsilon * slope.abs().sum())  # in units of epsilon, negative where the image is misclassified
    settings = OnlinePuma(threshold=Fraction(3, 2), bisection_steps=12)
    moved = settings.moved(model, images, attacked, labels)
    torch.testing.assert_close(moved.margin, exact.clamp(-1, 1), atol=2**-11, rtol=0)
    assert (moved.margin.abs() == 1).any()
    assert (moved.margin < 0).any()
    expected = images + moved.margin.view(-1, 1, 1, 1) * (attacked - images)
    torch.testing.assert_close(moved.images, expected)
    assert torch.equal(moved.easy, exact > 1.5)
    assert 0 < moved.easy.sum() < 200


def test_points_beyond_the_pixel_range_are_clipped_and_without_a_threshold_nothing_is_pruned() -> None:
    model = TwoSided(torch.ones(16), 100.0)  # always class 0
    images, labels = torch.full((3, 1, 4, 4), 0.95), torch.zeros(3).long()
    moved = OnlinePuma(threshold=Fraction(26, 8)).moved(model, images, images + 0.05, labels)
    assert moved.easy.all()
    assert moved.images.max() <= 1
    assert not OnlinePuma().moved(model, images, images + 0.05, labels).easy.any()


def test_online_margins_leave_running_statistics_alone() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.rand(8, 1, 4, 4)
    moved = OnlinePuma().moved(model, images, images + 0.1, torch.zeros(8).long())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad(), frozen_statistics(model):
        assert (model(moved.images).argmax(1) == 0)[moved.margin == 1].all()


def test_pruning_waits_for_the_warm_up_and_its_share_is_in_the_history(tmp_path: Path) -> None:
    pruned, plain = (
        training(tmp_path / name, TRADES, online=online)
        for name, online in (("pruned", OnlinePuma(threshold=Fraction(1, 1000), warm_up_epochs=2)), ("plain", None))
    )
    finish(pruned)
    finish(plain)
    *warm_up, last = pruned.history_table()["pruned"]
    assert warm_up == [0, 0]
    assert last > 0
    assert "pruned" not in plain.history_table()


def test_a_batch_pruned_whole_moves_nothing_but_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = training(tmp_path, TRADES, online=OnlinePuma(threshold=Fraction(1)))
    trained.one_step()
    before = [value.detach().clone() for value in trained.model.parameters()]
    sound = trained._losses
    monkeypatch.setattr(trained, "_losses", lambda batch: sound(batch)._replace(easy=torch.ones(10, dtype=torch.bool)))
    trained.one_step()
    assert all(torch.equal(old, new) for old, new in zip(before, trained.model.parameters(), strict=True))


def test_the_loss_is_the_mean_over_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = training(tmp_path, TRADES, online=OnlinePuma(threshold=Fraction(1)))
    easy = torch.arange(10) % 2 == 0
    sound, losses = trained._losses, torch.arange(10.0, requires_grad=True)
    found: list[tuple[float, bool]] = []
    monkeypatch.setattr(trained, "_losses", lambda batch: sound(batch)._replace(losses=losses, easy=easy))
    monkeypatch.setattr(trained, "_update", lambda loss, _, skip: found.append((loss.item(), bool(skip))))
    trained.one_step()
    assert found == [(5.0, False)]


def plan_of(row: Row, results: Path = Path("results")) -> Plan:
    return make_plan(load_config(TINY), {"t.t": Table(title="t", target="t.csv", rows=(row,))}, results=results)


def test_an_online_row_takes_no_radius() -> None:
    with pytest.raises(ValueError, match="online takes the place of the radius"):
        Row(method="m", online=OnlinePuma(), radius="margin")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"recipe": "rs_fgsm", "mid_training": MidTraining(keep=0.5, strategy="random", after_epoch=2)},
            "mid_training.after_epoch = 2 should be below 2",
        ),
        ({"online": OnlinePuma(threshold=2, warm_up_epochs=500)}, "online.warm_up_epochs = 500 should be below"),
        ({"epsilon": 20}, "m: epsilon = 20 .* below 1 in Linf"),
    ],
    ids=["after_epoch", "warm_up_epochs", "epsilon"],
)
def test_impossible_combinations_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_of(Row(method="m", **settings))


def test_a_share_that_keeps_no_image_is_refused_before_the_training(tmp_path: Path) -> None:
    row = Row(method="m", recipe="rs_fgsm", mid_training=MidTraining(keep=1e-4, strategy="random"))
    plan = plan_of(row, tmp_path)
    plan.write_specs()
    with pytest.raises(UserError, match=r"mid_training.keep = 0.0001 keeps none of the 1297 images of digits-train-"):
        run(plan, stage_of(plan, "models", "midway-random"))


@pytest.mark.slow
def test_every_way_to_prune_runs_from_the_pools_to_weights(tmp_path: Path) -> None:
    """The manifests of the table of strategies, by their counts; a model pruned midway; one pruned online."""
    table = load_experiments()["pruning.strategies"]
    difficult = Row(method="difficult", strategy="prune_easy", score="loss", radius="weak_if_difficult")
    at_once = Row(method="online at once", online=OnlinePuma(threshold=Fraction(1, 1000)))
    tiny = merge(TINY, {"training": {"trades": {"epochs": 3}, "rs_fgsm": {"epochs": 2}}})
    tables = {"pruning.strategies": table.model_copy(update={"rows": (*table.rows, difficult, at_once)})}
    plan = make_plan(load_config(tiny), tables, results=tmp_path)
    plan.write_specs()
    manifests = {
        stage: read_metadata(run(plan, stage) / "manifest.parquet").facts
        for stage, spec in plan.stages.items()
        if spec.kind == "manifests"
    }
    total = {facts.images for facts in manifests.values()}.pop()
    kept = {stage.rsplit("-", 1)[0]: facts.kept for stage, facts in manifests.items()}
    assert kept["random-with-replacement"] == total - round(0.2 * total)
    assert kept["prune-easy-and-difficult"] == total - round(0.34 * total)
    puma = next(facts for stage, facts in manifests.items() if stage.startswith("puma"))
    control = next(facts for stage, facts in manifests.items() if re.fullmatch("random-[0-9a-f]{10}", stage))
    assert control.kept_by_class == puma.kept_by_class

    midway = run(plan, stage_of(plan, "models", "midway-lowdistance"))
    record = read_record(midway).facts
    chosen = pd.read_parquet(midway / MID_TRAINING_FILE)
    assert chosen["kept"].sum() == record["images_kept"] == round(0.6 * len(chosen))
    models = {stage: spec for stage, spec in plan.stages.items() if isinstance(spec, ModelStage)}
    online = run(plan, next(stage for stage, spec in models.items() if spec.online == at_once.online))
    pruned = pd.read_parquet(online / "history.parquet")["pruned"]
    assert pruned.iloc[-1] > 0
    assert read_record(online).facts["images_kept"] is None  # a share of what was drawn from two pools


def run(plan: Plan, stage_id: str) -> Path:
    run_upstream(plan, stage_id)
    run_stage(plan.directory(stage_id) / "spec.json", Execution(device="cpu"))
    return plan.directory(stage_id)
