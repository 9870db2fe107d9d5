"""Evaluations and scores as stages, against attacks called directly and published numbers."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from robustprune import execution
from robustprune.errors import UserError
from robustprune.evaluation import stage as evaluation_stage
from robustprune.evaluation.attacks import is_right, withstands_autoattack, withstands_pgd
from robustprune.evaluation.outcome import summarise
from robustprune.files import digest
from robustprune.job import Job
from robustprune.margins import stage as margins_stage
from robustprune.margins.signed import signed_margins
from robustprune.models.checkpoint import WEIGHTS_FILE, save_weights
from robustprune.models.registry import build_model
from robustprune.pools.writing import write_pool
from robustprune.scores import files as score_files
from robustprune.scores.figure import draw_scores
from robustprune.settings import BoundarySearchSettings, DeepFoolSettings, EvaluationSettings, ThreatModel, TradesRecipe
from robustprune.specs import DigitsSource, EvaluationSpec, IngestedPoolSpec, MarginSpec, ModelSpec
from robustprune.stagefile import write_spec
from robustprune.store import open_store

MakeJob = Callable[..., Job]
COUNT = 30


class Killed(BaseException):
    """Stands for a kill -9 between two batches."""


@pytest.fixture(autouse=True)
def keep_the_trace_function() -> Iterator[None]:
    """AutoAttack, called directly, ends all tracing, coverage's too."""
    before = sys.gettrace()
    yield
    if sys.gettrace() is not before:
        sys.settrace(before)


POOL = IngestedPoolSpec(dataset="digits", split="test", classes=10, image_shape=(1, 8, 8), source=DigitsSource())
MODEL = ModelSpec(
    architecture="small_cnn",
    classes=10,
    image_shape=(1, 8, 8),
    real=POOL.id,
    synthetic=None,
    manifest=None,
    threat=ThreatModel.model_validate({"epsilon": 0.05}),
    training=TradesRecipe.model_validate({"epochs": 1, "epoch_images": 64, "step_size": 0.01}),
    seed=0,
)
THREAT = ThreatModel.model_validate({"norm": "Linf", "epsilon": "0.02"})
SETTINGS = EvaluationSettings.model_validate(
    {"images": 25, "pgd_steps": 5, "step_size": "0.005", "autoattack_images": 7, "seed": 3}
)
EVALUATION = EvaluationSpec(pool=POOL.id, model=MODEL.id, threat=THREAT, settings=SETTINGS)
SCORES = MarginSpec(pool=POOL.id, model=MODEL.id, norm="Linf", settings=DeepFoolSettings())


def a_network() -> nn.Module:
    torch.manual_seed(0)
    return build_model("small_cnn", image_shape=(1, 8, 8), classes=10).eval().requires_grad_(False)


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """Random images; most labels are what the network says, every fourth is its second choice."""
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 1, 8, 8)).astype(np.uint8)
    choices = a_network()(torch.tensor(pixels).float() / 255).argsort(1, descending=True).numpy()
    return pixels, np.where(np.arange(COUNT) % 4 == 0, choices[:, 1], choices[:, 0])


def quick_autoattack(
    model: nn.Module, images: Tensor, labels: Tensor, chunk: int, *, threat: ThreatModel, seed: int
) -> Tensor:
    """In place of AutoAttack, which takes seconds whatever the number of images."""
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(chunk))
    return is_right(model, images + 0.1 * noise, labels)


@pytest.fixture
def upstream(make_job: MakeJob) -> Path:
    """A pool and a model as complete stages have them; gives the model's directory."""
    write_pool(make_job("pools", POOL.id), *images_and_labels(), dataset="digits", source="noise", classes=10)
    model = make_job("models", MODEL.id)
    write_spec(model.directory / "spec.json", MODEL)
    save_weights(a_network().state_dict(), model.directory / WEIGHTS_FILE)
    return model.directory


def test_an_evaluation_tells_each_image_and_the_accuracies(make_job: MakeJob, upstream: Path) -> None:
    job = make_job("evaluations", EVALUATION.id, batch_size=8)
    facts = evaluation_stage.run(job, EVALUATION)
    pixels, labels = images_and_labels()
    table = pq.read_table(job.directory / "outcome.parquet").to_pydict()
    images = torch.tensor(pixels[:25]).float() / 255
    assert list(table) == ["index", "label", "clean", "pgd", "autoattack"]
    assert table["index"] == list(range(25))
    assert table["label"] == labels[:25].tolist()
    assert table["clean"] == [index % 4 != 0 for index in range(25)]
    right = withstands_pgd(
        a_network(), images, torch.tensor(labels[:25]), torch.arange(25), threat=THREAT, settings=SETTINGS
    )
    assert table["pgd"] == (right & torch.tensor(table["clean"])).tolist()
    assert 0 < sum(table["pgd"]) < sum(table["clean"])
    assert table["autoattack"][7:] == [None] * 18
    assert all(attacked <= plain for attacked, plain in zip(table["autoattack"][:7], table["pgd"][:7], strict=True))
    assert json.loads((job.directory / "summary.json").read_text()) == facts
    assert facts["clean"] == {"accuracy": 18 / 25, "images": 25, "standard_error": pytest.approx(0.08980, abs=1e-5)}
    assert facts["autoattack"]["images"] == 7


def test_the_batch_size_changes_no_outcome(make_job: MakeJob, upstream: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_stage, "withstands_autoattack", quick_autoattack)
    monkeypatch.setattr(evaluation_stage, "AUTOATTACK_CHUNK", 3)
    outcomes = []
    for number, batch_size in enumerate((1, 7, 100)):
        job = make_job("evaluations", f"{EVALUATION.id[:-1]}{number}", batch_size=batch_size)
        evaluation_stage.run(job, EVALUATION)
        outcomes.append(digest(job.directory / "outcome.parquet"))
    assert len(set(outcomes)) == 1


def test_an_evaluation_killed_in_each_pass_ends_in_the_same_bytes(
    make_job: MakeJob, upstream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_stage, "withstands_autoattack", quick_autoattack)
    monkeypatch.setattr(evaluation_stage, "AUTOATTACK_CHUNK", 3)
    straight = make_job("evaluations", EVALUATION.id, batch_size=8)
    evaluation_stage.run(straight, EVALUATION)
    broken = make_job("evaluations", f"{EVALUATION.id[:-1]}0", batch_size=8, checkpoint_seconds=0)
    for name in ("withstands_pgd", "withstands_autoattack"):
        with monkeypatch.context() as patch:
            patch.setattr(evaluation_stage, name, killed_at(2, getattr(evaluation_stage, name)))
            with pytest.raises(Killed):
                evaluation_stage.run(broken, EVALUATION)
        assert not (broken.directory / "summary.json").exists()
    evaluation_stage.run(broken, EVALUATION)
    for name in ("outcome.parquet", "summary.json"):
        assert digest(broken.directory / name) == digest(straight.directory / name)


def killed_at(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, up to its call with that number (from 1)."""
    calls = 0

    def wrapped(*arguments: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Killed
        return function(*arguments, **settings)

    return wrapped


def test_scores_are_written_with_all_they_need(make_job: MakeJob, upstream: Path) -> None:
    job = make_job("scores", SCORES.id, batch_size=8)
    facts = margins_stage.run(job, SCORES)
    pool_info = json.loads((job.upstream("pools", POOL.id) / "pool.json").read_text())
    store = open_store(job.directory / "scores.zarr", pool_digest=pool_info["digest"])
    margin = store.read("margin")
    _, labels = images_and_labels()
    prediction = store.read("prediction")
    assert ((margin > 0) == (prediction == labels)).all()
    assert ((margin > 0) == (np.arange(COUNT) % 4 != 0)).all()
    assert store.read("converged").all()
    assert (store.read("steps") >= 1).all()
    assert store.attributes["model_digest"] == digest(upstream / WEIGHTS_FILE)
    assert store.attributes["spec"] == SCORES.model_dump(mode="json")
    assert store.attributes["score"]["sign"].startswith("a large margin is an easy image")
    assert facts["images"] == COUNT
    assert (facts["negative"], facts["censored"]) == (8, 0)
    assert facts["share_negative"] == pytest.approx(8 / COUNT)
    assert facts["quantiles"]["50%"] == pytest.approx(float(np.median(margin)))
    assert (job.directory / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_scores_by_boundary_search_count_the_censored(make_job: MakeJob, upstream: Path) -> None:
    settings = BoundarySearchSettings.model_validate({"step_size": "1/100", "max_steps": 3})
    spec = SCORES.model_copy(update={"settings": settings})
    assert spec.id != SCORES.id
    assert set(spec.definitions) - set(SCORES.definitions) == {"margins.boundary_search"}
    job = make_job("scores", spec.id, batch_size=8)
    facts = margins_stage.run(job, spec)
    store = open_store(job.directory / "scores.zarr")
    margin, converged = store.read("margin"), store.read("converged")
    assert facts["censored"] == int(np.sum(~converged)) == int(np.sum(np.isinf(margin)))
    assert 0 < facts["censored"] < COUNT
    assert np.abs(margin[converged]).max() <= 0.03 + 1e-6
    assert (store.read("steps")[~converged] == 3).all()


def test_scoring_killed_between_chunks_ends_in_the_same_bytes(
    make_job: MakeJob, upstream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "CHUNK_BATCHES", 1)
    straight = make_job("scores", SCORES.id, batch_size=8)
    margins_stage.run(straight, SCORES)
    broken = make_job("scores", "margins-0123456789", batch_size=8, checkpoint_seconds=0)
    with monkeypatch.context() as patch:
        patch.setattr(margins_stage, "signed_margins", killed_at(3, signed_margins))
        with pytest.raises(Killed):
            margins_stage.run(broken, SCORES)
    assert len(list((broken.partial / "blocks").iterdir())) == 2
    with monkeypatch.context() as patch:
        patch.setattr(score_files, "draw_scores", killed_at(1, draw_scores))
        with pytest.raises(Killed):
            margins_stage.run(broken, SCORES)
    margins_stage.run(broken, SCORES)
    for name in ("scores.zarr", "scores.png"):
        assert digest(broken.directory / name) == digest(straight.directory / name)


@pytest.mark.parametrize("stage", ["evaluations", "scores"])
def test_a_diverged_model_is_refused_by_name(make_job: MakeJob, upstream: Path, stage: str) -> None:
    state = a_network().state_dict()
    state["7.bias"] = torch.full((10,), torch.nan)
    save_weights(state, upstream / WEIGHTS_FILE)
    run: Callable[[], object]
    if stage == "scores":
        run = partial(margins_stage.run, make_job("scores", SCORES.id), SCORES)
    else:
        run = partial(evaluation_stage.run, make_job("evaluations", EVALUATION.id), EVALUATION)
    with pytest.raises(UserError, match=f"{MODEL.id} gives logits that are not finite"):
        run()


def test_standard_errors_by_hand() -> None:
    right = {"clean": np.ones(4, bool), "pgd": np.array([1, 1, 1, 0], bool), "autoattack": np.zeros(2, bool)}
    assert summarise(right) == {
        "clean": {"accuracy": 1.0, "images": 4, "standard_error": 0.0},
        "pgd": {"accuracy": 0.75, "images": 4, "standard_error": pytest.approx((0.75 * 0.25 / 4) ** 0.5)},
        "autoattack": {"accuracy": 0.0, "images": 2, "standard_error": 0.0},
    }


def test_a_pgd_start_depends_on_the_samples_id_alone() -> None:
    pixels, labels = images_and_labels()
    images, targets, network = torch.tensor(pixels).float() / 255, torch.tensor(labels), a_network()
    settings = SETTINGS.model_copy(update={"pgd_steps": 1})

    def outcome(rows: Tensor) -> Tensor:
        return withstands_pgd(network, images[rows], targets[rows], rows, threat=THREAT, settings=settings)

    shuffled = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    assert torch.equal(outcome(shuffled), outcome(torch.arange(COUNT))[shuffled])


def test_autoattack_leaves_the_global_generator_alone_and_repeats_itself() -> None:
    pixels, labels = images_and_labels()
    images, targets = torch.tensor(pixels[1:4]).float() / 255, torch.tensor(labels[1:4])
    network, before = a_network(), torch.get_rng_state()
    first, second = (withstands_autoattack(network, images, targets, 0, threat=THREAT, seed=1) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_autoattack_takes_models_of_few_classes_but_not_of_three() -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 1, 8, 8)
    for classes in (3, 5):
        network = build_model("small_cnn", image_shape=(1, 8, 8), classes=classes).eval().requires_grad_(False)
        labels = network(images).argmax(1)
        threat = ThreatModel.model_validate({"norm": "L2", "epsilon": 1})
        if classes == 3:
            with pytest.raises(UserError, match="has 3 classes, but AutoAttack's targeted loss needs 4 or more"):
                withstands_autoattack(network, images, labels, 0, threat=threat, seed=0)
        else:
            assert not withstands_autoattack(network, images, labels, 0, threat=threat, seed=0).all()


def test_autoattacks_log_has_each_kind_of_warning_once(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("auto-attack")
    with caplog.at_level(logging.DEBUG, logger="auto-attack"):
        logger.info("of no interest")
        logger.warning("there are 5 points of a kind made up for this test")
        logger.warning("there are 7 points of a kind made up for this test")
    assert [record.getMessage()[:11] for record in caplog.records] == ["there are 5"]


def test_the_public_models_clean_accuracy(fgsm_model: nn.Module, mnist_test: tuple[Tensor, Tensor]) -> None:
    """98.50 % by the authors' own script."""
    images, labels = mnist_test
    right = [is_right(fgsm_model, images[row : row + 1000], labels[row : row + 1000]) for row in range(0, 10_000, 1000)]
    assert int(torch.cat(right).sum()) == 9850


@pytest.mark.slow
def test_autoattack_is_the_packages(fgsm_model: nn.Module, mnist_test: tuple[Tensor, Tensor]) -> None:
    """Other seeds, so up to an image of 200 may differ."""
    images, labels = mnist_test[0][:200], mnist_test[1][:200]
    threat = ThreatModel.model_validate({"norm": "Linf", "epsilon": "0.3"})
    ours = withstands_autoattack(fgsm_model, images, labels, 0, threat=threat, seed=0)
    direct = AutoAttack(fgsm_model, eps=0.3, norm="Linf", seed=0, version="standard")
    _, predicted = direct.run_standard_evaluation(images, labels, batch_size=200)
    assert abs(int(ours.sum()) - int((predicted == labels).sum())) <= 1
    assert 100 < int(ours.sum()) < 200
