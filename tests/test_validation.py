"""Validation: accuracies against a plain loop, best weights, undisturbed bits, time kept apart, collapses."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import load_digits
from torch import Tensor, nn

from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.job import Job, run_stage
from robustprune.core.record import read_record
from robustprune.core.sample_noise import per_sample
from robustprune.core.steps import ResumableSteps
from robustprune.core.yaml_files import merge
from robustprune.evaluation.robustness import EvaluationStage
from robustprune.experiments.row import Row
from robustprune.images.pool import Pool, open_pool
from robustprune.networks.weights import load_model, load_weights
from robustprune.planning.plan import Plan
from robustprune.scores.margin import MarginStage
from robustprune.training.model import ModelStage, _warn_of_unused_radii
from robustprune.training.recipes.base import RecipeName
from robustprune.training.schedules import Clock
from robustprune.training.trainset import KeptImages, missing_classes
from robustprune.training.validation import Validation, catastrophic_overfitting_epoch
from tiny import spec_of, specs_of, stage_of, tiny_plan

CPU = torch.device("cpu")
SCALE = {
    "epochs": 4, "epoch_images": 320, "batch_size": 64, "attack_steps": 2, "synthetic_fraction": 0,
    "validation_images": 70, "validation_steps": 5,
}  # fmt: skip


class Trained(NamedTuple):
    """A small model of the digits, what it was trained by and on."""

    plan: Plan
    directory: Path
    spec: ModelStage
    pool: Pool


def trained(results: Path, *, data: str = "digits", **settings: Any) -> Trained:
    """Train in this process, with the settings over SCALE."""
    plan = tiny_plan(results, {"data": {"source": data}, "training": {"trades": merge(SCALE, settings)}})
    model = stage_of(plan, "models", "trades")
    for stage in plan.needed_for([model]):
        run_stage(plan.directory(stage) / "spec.json", Execution(device="cpu"))
    spec = spec_of(plan, model, ModelStage)
    return Trained(plan, plan.directory(model), spec, open_pool(plan.directory(spec.real)))


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    torch.set_num_threads(1)
    return trained(tmp_path_factory.mktemp("validated") / "results")


def accuracies_by_hand(model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> tuple[float, float]:
    """Clean and PGD accuracy, each image attacked on its own: 5 steps of epsilon / 4 on the CW margin, in the box."""
    clean, robust = [], []
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        clean.append(bool(model(image[None]).argmax() == label))
        draw = per_sample("uniform", tuple(image.shape), torch.tensor([index]), seed, "validation start")[0]
        point = (image + 0.15 * draw).clamp(0, 1)
        for _ in range(5):
            point = point.detach().requires_grad_()
            logits = model(point[None])[0]
            other = torch.cat([logits[:label], logits[label + 1 :]]).max()
            (gradient,) = torch.autograd.grad((other - logits[label]).clamp(max=0), point)
            point = (image + (point + 0.0375 * gradient.sign() - image).clamp(-0.15, 0.15)).clamp(0, 1)
        robust.append(bool(model(point.detach()[None]).argmax() == label))
    return float(np.mean(clean)), float(np.mean(robust))


def test_accuracies_are_those_of_a_plain_loop_over_the_averaged_model(validated: Trained) -> None:
    _, directory, _, pool = validated
    history = pd.read_parquet(directory / "history.parquet")
    images = torch.tensor(np.array(pool.images[:70])).float() / 255
    found = accuracies_by_hand(load_model(directory, CPU), images, torch.tensor(pool.labels[:70].astype(int)), 0)
    assert (history["validation_clean"].iloc[-1], history["validation_pgd"].iloc[-1]) == pytest.approx(found)
    assert 0 < found[1] < found[0] < 1


def test_the_best_weights_are_those_of_the_best_epoch_and_ties_go_to_the_later(validated: Trained) -> None:
    _, directory, spec, pool = validated
    history, facts = pd.read_parquet(directory / "history.parquet"), read_record(directory).facts
    highest = history["validation_pgd"].max()
    assert facts["best_accuracy"] == highest
    assert facts["best_epoch"] == history[history["validation_pgd"] == highest]["epoch"].max()
    validation = Validation(spec, pool, CPU)
    assert validation.accuracies(load_model(directory, CPU, "best"))["validation_pgd"] == highest


def test_validation_images_that_are_held_out_are_not_learnt_from(tmp_path: Path, validated: Trained) -> None:
    kept = read_record(validated.directory).facts["images_kept"]
    other = trained(tmp_path / "results", validation_held_out=False, validate_every=0)
    assert read_record(other.directory).facts["images_kept"] == kept + 70


@pytest.mark.parametrize(("images", "held_out"), [(1298, False), (1297, True)])
def test_more_validation_images_than_there_are_is_refused_before_anything_runs(
    images: int, held_out: bool, tmp_path: Path
) -> None:
    settings = {"trades": {"validation_images": images, "validation_held_out": held_out}}
    with pytest.raises(UserError, match=f"trades.validation_images = {images}, .* 1297 images"):
        tiny_plan(tmp_path / "results", {"training": settings})


def test_more_validation_images_than_a_pool_turns_out_to_have_are_refused_by_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustprune.planning.context.Stages.rows_of", lambda *_: None)
    with pytest.raises(UserError, match=r"trades.validation_images = 1298, .* 1297 images"):
        trained(tmp_path / "results", validation_images=1298, validation_held_out=False)


@pytest.mark.parametrize("held_out", [True, False])
def test_validation_images_of_few_classes_are_refused(held_out: bool, tmp_path: Path) -> None:
    """As the first ones of a set are that is sorted by class; of 20 random ones several classes may be missing."""
    digits = load_digits()
    order = np.argsort(digits.target, kind="stable")
    for split, rows in (("train", order[::2]), ("test", order[1::2])):
        images = (digits.images[rows] * 15).astype(np.uint8)
        np.savez(tmp_path / f"{split}.npz", image=images, label=digits.target[rows])
    data = f"npz:{tmp_path}"
    with pytest.raises(UserError, match=r"validation_images = 70, .* lack 9 of its classes"):
        trained(tmp_path / "results", data=data, validation_held_out=held_out)
    trained(tmp_path / "results", data=data, epochs=1, validation_images=0)


def test_so_few_images_that_classes_are_missing_by_chance_are_fair() -> None:
    random = np.random.default_rng(0).integers(0, 10, (200, 20))
    assert {missing_classes([100] * 10, labels) for labels in random} == {0}
    assert min(len(np.unique(labels)) for labels in random) < 8
    assert missing_classes([100] * 10, np.repeat([0, 1], 10)) == 0  # not once in a million, but nearly
    assert missing_classes([100] * 10, np.repeat([0, 1], 15)) == 8
    assert missing_classes([100, 0, 100], np.array([0, 2])) == 0
    assert missing_classes([100] * 10, np.array([], np.int16)) == 0


def test_validating_changes_no_bit_of_the_training(tmp_path: Path, validated: Trained) -> None:
    without = trained(tmp_path / "results", validate_every=0).directory
    for name in ("weights.safetensors", "raw.safetensors"):
        ours, theirs = load_weights(validated.directory / name), load_weights(without / name)
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert not (without / "best.safetensors").exists()
    columns = pd.read_parquet(without / "history.parquet").columns
    assert [column for column in columns if column.startswith("validation")] == []
    assert "catastrophic_overfitting_epoch" not in read_record(without).facts


@pytest.mark.parametrize(
    ("every", "epochs", "expected"), [(1, 3, [1, 2, 3]), (2, 5, [2, 4, 5]), (9, 3, [3]), (0, 3, [])]
)
def test_when_validation_is_due(every: int, epochs: int, expected: list[int], validated: Trained) -> None:
    settings = validated.spec.training.model_copy(update={"validate_every": every})
    clock = Clock((2, *(3,) * (epochs - 1)))
    validation = Validation(validated.spec.model_copy(update={"training": settings}), validated.pool, CPU)
    due = [clock.position(step) for step in range(clock.total) if validation.is_due(clock.position(step))]
    assert [position.epoch + 1 for position in due] == expected
    assert all(position.ends_epoch for position in due)


def test_what_is_timed_apart_is_not_time_of_the_steps(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("robustprune.core.steps.time", SimpleNamespace(monotonic=lambda: now))

    class Steps(ResumableSteps):
        what = "stepping"

        def take_step(self) -> None:
            nonlocal now
            now += 0.25
            with self.timed_apart("resting"):
                now += 2

        def state(self) -> dict[str, Any]:
            return {}

        def load(self, state: dict[str, Any]) -> None:
            pass

    steps = Steps(make_job("models", "m-0123456789"), total=3)
    steps.run()
    again = Steps(steps.job, total=3)
    again.run()
    for each in (steps, again):
        assert (each.seconds, each.apart) == (0.75, {"resting": 6})


COLLAPSES: dict[str, tuple[list[tuple[float, float]], int | None]] = {
    "robust and right on": ([(0.5, 0.4), (0.6, 0.5), (0.65, 0.55)], None),
    "collapsed in epoch 3": ([(0.5, 0.4), (0.6, 0.5), (0.9, 0.0)], 3),
    "in two steps": ([(0.5, 0.4), (0.55, 0.25), (0.8, 0.1)], 3),
    "collapsed and recovered": ([(0.5, 0.4), (0.9, 0.0), (0.6, 0.5)], 2),
    "diverged: both fall": ([(0.5, 0.4), (0.1, 0.1)], None),
    "fell by 20 points, not more": ([(0.5, 0.4), (0.6, 0.2)], None),
    "one epoch": ([(0.5, 0.4)], None),
}


@pytest.mark.parametrize(("accuracies", "epoch"), COLLAPSES.values(), ids=COLLAPSES)
def test_a_collapse_is_a_fall_under_pgd_while_the_training_accuracy_rises(
    accuracies: list[tuple[float, float]], epoch: int | None
) -> None:
    history = [
        {"epoch": number, "training_accuracy": training, "validation_pgd": robust}
        for number, (training, robust) in enumerate(accuracies, start=1)
    ]
    assert catastrophic_overfitting_epoch(history) == epoch
    unwatched = [{**row, "epoch": row["epoch"] * 2} for row in history]
    gaps = [{"epoch": row["epoch"] - 1, "training_accuracy": 1.0} for row in unwatched]
    spread = [row for pair in zip(gaps, unwatched, strict=True) for row in pair]
    assert catastrophic_overfitting_epoch(spread) == (None if epoch is None else 2 * epoch)


def test_the_weights_that_are_used_are_the_configs_or_the_rows(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, {"weights": "best"})
    assert {spec.weights for spec in specs_of(plan, EvaluationStage)} == {"best"}
    assert {spec.weights for spec in specs_of(plan, MarginStage)} == {"best"}
    assert {spec.weights for spec in specs_of(tiny_plan(tmp_path), EvaluationStage)} == {"last"}


@pytest.mark.parametrize("recipe", ["standard", "trades"])
def test_radii_that_nothing_uses_are_warned_of(
    recipe: RecipeName, validated: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    plan, _, spec, pool = validated
    spec = spec.model_copy(update={"training": plan.config.training.named(recipe), "manifest": "puma-0123456789"})
    rows = np.arange(3)
    _warn_of_unused_radii(spec, [KeptImages(pool, rows, np.full(3, 0.15, np.float32))])
    assert caplog.text == ""
    _warn_of_unused_radii(spec, [KeptImages(pool, rows, np.array([0.15, -0.1, 0.15], np.float32))])
    assert ("the radii of puma-0123456789 are not used" in caplog.text) == (recipe == "standard")


@pytest.mark.parametrize(("changes", "says"), [({"radius": "margin"}, "radius = margin"), ({"epsilon": 0.5}, "1/2")])
def test_a_row_cannot_give_radii_to_a_training_that_attacks_nothing(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=f"recipe = standard attacks nothing, .*{says}"):
        Row.model_validate({"method": "m", "recipe": "standard", **changes})


def test_best_weights_need_a_validation(tmp_path: Path) -> None:
    overrides = {"weights": "best", "training": {"trades": {"validate_every": 0}}}
    with pytest.raises(UserError, match=r"weights = best, but training.trades has no validation"):
        tiny_plan(tmp_path, overrides)
