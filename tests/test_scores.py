"""Scores other than margins: the stages that make them, and what is in their stores."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from robustprune.attacks.cross_entropy import attack_cross_entropy
from robustprune.attacks.cross_entropy import losses as cross_entropies
from robustprune.attacks.inputs import as_inputs
from robustprune.attacks.norms import norm_named
from robustprune.cli.show import describe_path
from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.job import Job, run_stage
from robustprune.core.paths import STORE_NAME, dynamics_name
from robustprune.core.settings import CrossEntropyAttack, ThreatModel
from robustprune.experiments.papers import load_experiments
from robustprune.experiments.tables.forms import Table
from robustprune.images.pool import open_pool
from robustprune.networks.weights import load_model
from robustprune.planning.plan import Plan
from robustprune.scores.dynamics_score import DynamicsScoreStage
from robustprune.scores.loss import LossScoreStage
from robustprune.scores.metric import METRICS
from robustprune.scores.score import SCORES
from robustprune.scores.score_files import read_score
from robustprune.scores.store.reader import Store, open_store
from tiny import plan_of_scores, run_upstream, spec_of

Floats = npt.NDArray[np.float64]


def score_stages(plan: Plan) -> dict[str, str]:
    """The id of each planned score, by its name."""
    return {spec.model_dump()["score"]: stage for stage, spec in plan.stages.items() if spec.kind == "scores"}


def plan_with_scores(folder: Path, *names: str) -> Plan:
    """The plan of these scores, which are made."""
    plan = plan_of_scores(folder, *names)
    for stage in score_stages(plan).values():
        run_upstream(plan, stage)
        run_stage(plan.directory(stage) / "spec.json", Execution(device="cpu"))
    return plan


@dataclass(frozen=True)
class Finished:
    """Losses that were measured, and what they were measured on."""

    plan: Plan
    stages: dict[str, str]

    def read(self, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        return read_score(self.plan.directory(self.stages[name]), pool_digest=self.pool().info.digest)[0]

    def pool(self) -> Any:
        return open_pool(self.plan.directory(self.spec("loss").pool))

    def spec(self, name: str) -> LossScoreStage:
        return spec_of(self.plan, self.stages[name], LossScoreStage)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Both losses of every training digit under a tiny TRADES model."""
    plan = plan_with_scores(tmp_path_factory.mktemp("losses"), "loss", "loss_adversarial")
    return Finished(plan, score_stages(plan))


def test_the_loss_is_minus_the_log_of_the_labels_softmax(losses: Finished) -> None:
    pool = losses.pool()
    model = load_model(losses.plan.directory(losses.spec("loss").model), torch.device("cpu"))
    logits = model(torch.from_numpy(np.array(pool.images)).float() / 255).double().numpy()
    of_label = logits[np.arange(len(pool)), pool.labels]
    expected = np.log(np.exp(logits - of_label[:, None]).sum(1))
    np.testing.assert_allclose(losses.read("loss"), expected, rtol=1e-4, atol=1e-5)


def test_an_attack_raises_the_loss_and_distance_is_its_inverse(losses: Finished) -> None:
    clean, attacked = losses.read("loss"), losses.read("loss_adversarial")
    assert np.mean(attacked > clean) > 0.9
    store = open_store(losses.plan.directory(losses.stages["loss"]) / STORE_NAME)
    np.testing.assert_allclose(store.read("distance") * clean, 1, rtol=1e-5)
    assert read_score(store.path.parent, pool_digest=losses.pool().info.digest)[1].easy == "low"


def test_the_attacked_loss_is_at_the_step_that_rs_fgsm_trains_with(losses: Finished) -> None:
    """The digits' start is not clipped before the gradient, as MNIST's is not (Wong et al. 2020)."""
    spec, pool = losses.spec("loss_adversarial"), losses.pool()
    assert (losses.spec("loss").clip_start, spec.clip_start) == (True, False)
    assert spec.attack is not None
    assert spec.threat is not None
    model = load_model(losses.plan.directory(spec.model), torch.device("cpu"))
    images, labels = as_inputs(pool, 0, len(pool), torch.device("cpu"))
    attack, threat, ids = spec.attack, spec.threat, torch.arange(len(pool))
    measured = losses.read("loss_adversarial")
    for clip_start in (False, True):
        attacked = attack_cross_entropy(
            model, images, labels, ids,
            attack=attack, threat=threat, seed=spec.seed, purpose="loss start", clip_start=clip_start,
        )  # fmt: skip
        expected = cross_entropies(model, attacked, labels).numpy()
        assert np.allclose(measured, expected, rtol=1e-4, atol=1e-5) != clip_start


def test_losses_read_the_averaged_model_that_margins_read(losses: Finished) -> None:
    both = plan_of_scores(losses.plan.results, "margin", "loss")
    models = {spec.model_dump()["model"] for spec in both.stages.values() if spec.kind == "scores"}
    assert len(models) == 1


def test_the_table_of_scores_has_a_row_for_each() -> None:
    (table,) = (table for table in load_experiments().values() if table.target == "scores.csv")
    assert isinstance(table, Table)
    plain = [row.score for row in table.rows if row.uses_score and not (row.margins or row.extrapolated)]
    assert sorted(plain) == sorted([*SCORES, *METRICS])


@pytest.fixture(scope="module")
def dynamics(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_with_scores(tmp_path_factory.mktemp("dynamics"), *METRICS)


def recorded_by(plan: Plan, stage: str) -> tuple[DynamicsScoreStage, list[Store]]:
    spec = spec_of(plan, stage, DynamicsScoreStage)
    return spec, [open_store(plan.directory(model) / dynamics_name(spec.pool)) for model in spec.models]


def windows(values: Floats) -> Floats:
    """The standard deviations of one window of three out of four epochs: all that K - J leaves."""
    return np.asarray(np.sqrt(((values[:3] - values[:3].mean(0)) ** 2).sum(0) / 2))


BY_HAND: dict[str, tuple[str, str, Callable[[Floats], Floats]]] = {
    "difficulty": ("trades", "clean_averaged_correct", lambda correct: (1 - correct).sum(0) / 4),
    "uncertainty": ("standard", "clean_confidence", windows),
    "uncertainty_adversarial": ("trades", "clean_confidence", windows),
    "uncertainty_tilde": ("trades", "adversarial_confidence", windows),
    "frequency": ("trades", "clean_confidence", lambda values: np.abs(np.fft.fft(values, axis=0))[1:].sum(0)),
    "frequency_adversarial": (
        "trades", "adversarial_confidence", lambda values: np.abs(np.fft.fft(values, axis=0))[1:].sum(0),
    ),
    "el2n": ("standard", "clean_error", lambda errors: errors[0]),
    "forgetting": (
        "standard", "clean_correct",
        lambda correct: np.where(correct.any(0), (np.diff(correct, axis=0) < 0).sum(0), np.inf),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(METRICS))
def test_every_score_of_dynamics_is_what_its_paper_says_of_the_recording(name: str, dynamics: Plan) -> None:
    stage = score_stages(dynamics)[name]
    spec, recordings = recorded_by(dynamics, stage)
    recipe, column, by_hand = BY_HAND[name]
    assert all(f"recorded-{recipe}" in model for model in spec.models)
    assert len(spec.models) == (2 if name == "el2n" else 1)
    expected = np.mean([by_hand(recording.read(column).astype(np.float64)) for recording in recordings], axis=0)
    pool = open_pool(dynamics.directory(spec.pool))
    score, meaning = read_score(dynamics.directory(stage), pool_digest=pool.info.digest)
    np.testing.assert_allclose(score, expected, atol=1e-5)
    assert len(np.unique(score)) > 1
    assert (meaning.column, meaning.easy) == (name, "low")
    assert name in describe_path(dynamics.directory(stage))


def test_parts_score_what_one_job_does(dynamics: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = score_stages(dynamics)["uncertainty"]
    spec, _ = recorded_by(dynamics, stage)
    whole = open_store(dynamics.directory(stage) / STORE_NAME)
    directory = dynamics.directory(stage).with_name("in-parts")
    job = Job(directory, Execution(device="cpu"), threads=1, live=False)
    job.partial.mkdir(parents=True)
    monkeypatch.setattr("robustprune.scores.dynamics_score.RECORDED_TOGETHER", 64)
    for rows in (range(640, whole.rows), range(640)):
        spec.row_pass(job)(rows=rows)
    assert len(list((job.partial / "blocks").iterdir())) == 2
    spec.run(job)
    assert open_store(directory / STORE_NAME).files == whole.files


def test_a_recording_of_another_pool_is_refused(dynamics: Plan) -> None:
    stage = score_stages(dynamics)["forgetting"]
    _, (recording,) = recorded_by(dynamics, stage)
    with pytest.raises(UserError, match="not 0000"):
        open_store(recording.path, pool_digest="0000")


class Linear(nn.Module):
    """Two classes on the sides of a plane: the steepest way to a higher loss is the same everywhere."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, images: Tensor) -> Tensor:
        height = images.flatten(1) @ self.weight
        return torch.stack([-height, height], dim=1)


@pytest.mark.parametrize(
    ("norm", "attack"),
    [
        ("Linf", CrossEntropyAttack(steps=10, step=0.25)),
        ("Linf", CrossEntropyAttack(steps=1, step=2)),
        ("L2", CrossEntropyAttack(steps=60, step=0.25)),
    ],
)
def test_the_attack_on_a_plane_ends_where_the_loss_is_highest(norm: str, attack: CrossEntropyAttack) -> None:
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0])
    images = torch.full((6, 1, 2, 2), 0.5)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    threat = ThreatModel.model_validate({"norm": norm, "epsilon": "1/10"})
    attacked = attack_cross_entropy(
        Linear(weight), images, labels, torch.arange(6), attack=attack, threat=threat, seed=0, purpose="test"
    )
    best = 0.1 * norm_named(norm).steepest(weight.view(1, 1, 2, 2)) * (1 - 2 * labels.view(-1, 1, 1, 1))
    torch.testing.assert_close(attacked - images, best, atol=1e-4, rtol=0)


def test_an_images_attack_does_not_depend_on_its_batch() -> None:
    images = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    labels, model = torch.tensor([0, 1, 1, 0, 1]), Linear(torch.tensor([1.0, -2.0, 0.5, 3.0]))
    attack, threat = CrossEntropyAttack(steps=1, step=0.5), ThreatModel.model_validate({"epsilon": 0.1})

    def attacked(rows: slice) -> Tensor:
        ids = torch.arange(5)[rows]
        how: dict[str, Any] = {"attack": attack, "threat": threat, "seed": 3, "purpose": "test"}
        return attack_cross_entropy(model, images[rows], labels[rows], ids, **how)

    assert torch.equal(attacked(slice(5)), torch.cat([attacked(slice(i, i + 1)) for i in range(5)]))
