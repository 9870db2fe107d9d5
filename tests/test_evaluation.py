"""Evaluations and scores as stages, against attacks called directly and published numbers."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from processes import Killed
from robustprune.attacks import margins
from robustprune.attacks.boundary_settings import BoundarySearchSettings
from robustprune.attacks.deepfool_settings import DeepFoolSettings
from robustprune.attacks.margin_loss import cw_objective
from robustprune.attacks.pgd import pgd_from_own_starts
from robustprune.core import execution
from robustprune.core.errors import UserError
from robustprune.core.files import digest
from robustprune.core.job import Job
from robustprune.core.randomness import derive_seed
from robustprune.core.settings import ThreatModel
from robustprune.core.stage_file import write_spec
from robustprune.evaluation import autoattack, pgd
from robustprune.evaluation import robustness as evaluation_stage
from robustprune.evaluation.attack import ATTACKS, AttackName
from robustprune.evaluation.autoattack import STANDARD, withstands_one
from robustprune.evaluation.checks import zero_gradients
from robustprune.evaluation.outcome import answers_at_random, balanced_subset, is_right, summarise
from robustprune.evaluation.pgd import objective_of, withstands_pgd
from robustprune.evaluation.robustness import EvaluationStage
from robustprune.evaluation.settings import EvaluationSettings, Pgd
from robustprune.evaluation.summary import doubts, read_summaries
from robustprune.images.ingested import IngestedPoolStage
from robustprune.images.pool import open_pool
from robustprune.images.sources import DigitsSource
from robustprune.images.writing import write_pool
from robustprune.networks.architecture import build_model
from robustprune.networks.imported import ImportedModelStage
from robustprune.networks.weights import WEIGHTS_FILE, save_weights
from robustprune.scores import score_files
from robustprune.scores.margin import MarginStage
from robustprune.scores.store.reader import open_store
from robustprune.training.model import ModelStage
from robustprune.training.recipes.trades import TradesRecipe

MakeJob = Callable[..., Job]
COUNT = 30


@pytest.fixture(autouse=True)
def keep_the_trace_function() -> Iterator[None]:
    """AutoAttack, called directly, ends all tracing, coverage's too."""
    before = sys.gettrace()
    yield
    if sys.gettrace() is not before:
        sys.settrace(before)


POOL = IngestedPoolStage(dataset="digits", split="test", classes=10, image_shape=(1, 8, 8), source=DigitsSource())
SMALL: dict[str, Any] = {"architecture": "small_cnn", "classes": 10, "image_shape": (1, 8, 8)}
MODEL = ModelStage(
    real=POOL.id,
    synthetic=None,
    manifest=None,
    threat=ThreatModel.model_validate({"epsilon": 0.05}),
    training=TradesRecipe.model_validate({"epochs": 1, "epoch_images": 64, "step_size": 0.01}),
    seed=0,
    **SMALL,
)
THREAT = ThreatModel.model_validate({"norm": "Linf", "epsilon": "0.02"})
SETTINGS = EvaluationSettings.model_validate({"cw": {"steps": 5}, "pgd": {"steps": 4, "restarts": 3}, "seed": 3})


def evaluation(attack: AttackName, **changed: Any) -> EvaluationStage:
    content = {
        "attack": attack,
        "pgd": SETTINGS.pgd_named(attack),
        "pool": POOL.id,
        "images": SETTINGS.images_under(attack, None),
        "model": MODEL.id,
        "threat": THREAT,
        "seed": SETTINGS.seed,
    }
    return EvaluationStage.model_validate({**content, **changed})


CW, AUTOATTACK = evaluation("cw"), evaluation("autoattack")
SCORES = MarginStage(pool=POOL.id, model=MODEL.id, norm="Linf", settings=DeepFoolSettings())


def a_network() -> nn.Module:
    torch.manual_seed(0)
    return build_model("small_cnn", image_shape=(1, 8, 8), classes=10).eval().requires_grad_(False)


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """Random images; most labels are what the network says, every fourth is its second choice."""
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 1, 8, 8)).astype(np.uint8)
    choices = a_network()(torch.tensor(pixels).float() / 255).argsort(1, descending=True).numpy()
    return pixels, np.where(np.arange(COUNT) % 4 == 0, choices[:, 1], choices[:, 0])


def quick_attack(
    name: str, model: nn.Module, images: Tensor, labels: Tensor, chunk: int, *, threat: ThreatModel, seed: int
) -> Tensor:
    """In place of AutoAttack, which takes seconds whatever the number of images."""
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(chunk + 100 * STANDARD.index(name)))
    return is_right(model, images + 0.1 * noise, labels)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """AutoAttack in chunks of three, each done at once."""
    monkeypatch.setattr("robustprune.evaluation.autoattack.withstands_one", quick_attack)
    monkeypatch.setitem(ATTACKS.facts("autoattack"), "together", 3)


@pytest.fixture
def upstream(make_job: MakeJob) -> Path:
    """A pool and a model as complete stages have them; gives the model's directory."""
    write_pool(make_job("pools", POOL.id), *images_and_labels(), dataset="digits", source="noise", classes=10)
    model = make_job("models", MODEL.id)
    write_spec(model.directory / "spec.json", MODEL)
    save_weights(a_network().state_dict(), model.directory / WEIGHTS_FILE)
    return model.directory


def outcome(job: Job) -> dict[str, list[Any]]:
    return dict(pq.read_table(job.directory / "outcome.parquet").to_pydict())


def as_tensors(pixels: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.tensor(pixels).float() / 255, torch.tensor(labels)


def assert_same_files(one: Job, other: Job, *names: str) -> None:
    for name in names:
        assert digest(one.directory / name) == digest(other.directory / name)


def test_pgd_records_each_image_and_the_accuracies(make_job: MakeJob, upstream: Path) -> None:
    job = make_job("evaluations", CW.id, batch_size=8)
    facts = CW.run(job)
    pixels, labels = images_and_labels()
    table, pgd = outcome(job), SETTINGS.pgd_named("cw")
    assert list(table) == ["index", "label", "clean", "cw", "zero_gradient"]
    assert table["index"] == list(range(COUNT))
    assert table["label"] == labels.tolist()
    assert table["clean"] == [index % 4 != 0 for index in range(COUNT)]
    assert not any(table["zero_gradient"])
    assert pgd is not None
    right = withstands_pgd(
        a_network(), *as_tensors(pixels, labels), torch.arange(COUNT), threat=THREAT, settings=pgd, seed=3
    )
    assert table["cw"] == right.tolist()
    assert 0 < sum(table["cw"]) < sum(table["clean"])
    assert json.loads((job.directory / "summary.json").read_text()) == facts
    assert facts["clean"] == {"accuracy": 22 / 30, "images": 30, "standard_error": pytest.approx(0.08074, abs=1e-5)}
    assert (facts["cw"]["images"], facts["cw"]["zero_gradients"], facts["cw"]["random"]) == (30, 0, False)


def test_without_an_attack_there_is_only_the_clean_accuracy(make_job: MakeJob, upstream: Path) -> None:
    spec = evaluation("clean")
    job = make_job("evaluations", spec.id)
    facts = spec.run(job)
    assert list(facts) == ["clean"]
    assert list(outcome(job)) == ["index", "label", "clean"]
    assert facts["clean"]["accuracy"] == pytest.approx(22 / 30)


def test_autoattack_records_what_broke_each_image(make_job: MakeJob, upstream: Path, quick: None) -> None:
    job = make_job("evaluations", AUTOATTACK.id, batch_size=8)
    facts = AUTOATTACK.run(job)
    table = outcome(job)
    assert list(table) == ["index", "label", "clean", "autoattack", "zero_gradient", "broken_by"]
    pixels, labels = images_and_labels()
    for row in range(COUNT):
        chunk = slice(row - row % 3, row - row % 3 + 3)
        alive, broken_by = is_right(a_network(), *as_tensors(pixels[chunk], labels[chunk])), None
        for name in STANDARD:
            before = alive.clone()
            images, targets = as_tensors(pixels[chunk][before], labels[chunk][before])
            alive[before] = quick_attack(name, a_network(), images, targets, row // 3, threat=THREAT, seed=3)
            if before[row % 3] and not alive[row % 3]:
                broken_by = name
        assert (table["autoattack"][row], table["broken_by"][row]) == (bool(alive[row % 3]), broken_by)
    assert len({name for name in table["broken_by"] if name}) >= 2
    assert facts["autoattack"]["square_gain"] == table["broken_by"].count("square") / COUNT


@pytest.mark.parametrize("spec", [evaluation("clean"), CW, AUTOATTACK], ids=lambda spec: spec.attack)
def test_a_dead_network_is_one_bad_run_and_no_error(
    make_job: MakeJob, upstream: Path, monkeypatch: pytest.MonkeyPatch, spec: EvaluationStage
) -> None:
    """All its gradients are 0. A network that was trained elsewhere is refused, as something else may be wrong."""
    dead = {name: torch.zeros_like(values) for name, values in a_network().state_dict().items()}
    save_weights(dead, upstream / WEIGHTS_FILE)
    facts = spec.run(make_job("evaluations", spec.id))
    _, labels = images_and_labels()
    assert {part["accuracy"] for part in facts.values()} == {np.mean(labels == 0)}
    if spec.attack == "clean":
        return
    assert facts[spec.attack]["zero_gradients"] == COUNT
    foreign = {**SMALL, "digest": "0" * 64, "entry": None, "normalization": None, "location": ""}
    monkeypatch.setattr(evaluation_stage, "read_spec", lambda _: ImportedModelStage.model_validate(foreign))
    with pytest.raises(UserError, match="has a gradient of 0 at all of 30 images"):
        spec.run(make_job("evaluations", f"{spec.id[:-1]}x"))


def test_an_evaluation_takes_as_many_images_of_each_class(make_job: MakeJob, upstream: Path) -> None:
    labels, pool = np.arange(COUNT) % 10, "balanced-0123456789"
    images, _ = images_and_labels()
    write_pool(make_job("pools", pool), images, labels, dataset="digits", source="noise", classes=10)
    spec = evaluation("cw", pool=pool, images=20)
    job = make_job("evaluations", spec.id)
    facts = spec.run(job)
    table = outcome(job)
    assert table["index"] == balanced_subset(labels, 20, classes=10).tolist()
    assert table["label"] == [index % 10 for index in table["index"]]
    assert np.bincount(table["label"]).tolist() == [2] * 10
    assert facts["cw"]["images"] == 20


def test_the_passes_are_the_whole_of_autoattack_bit_for_bit() -> None:
    """One chunk, the package's own loop over its four attacks, with the seed that the chunk has."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 30), nn.ReLU(), nn.Linear(30, 6))
    images, network = torch.rand(12, 1, 4, 4), layers.eval().requires_grad_(False)
    targets, threat = network(images).argmax(1), ThreatModel.model_validate({"epsilon": "0.06"})
    targets[::4] = 0
    right, by_pass = is_right(network, images, targets), []
    for name in STANDARD:
        right[right.clone()] = withstands_one(name, network, images[right], targets[right], 4, threat=threat, seed=1)
        by_pass.append(int(right.sum()))
    whole = AutoAttack(network, eps=0.06, norm="Linf", seed=derive_seed(1, "autoattack", 4), version="standard")
    whole.apgd_targeted.n_target_classes = whole.fab.n_target_classes = 5
    attacked, _ = whole.run_standard_evaluation(images, targets, batch_size=250)
    assert torch.equal(is_right(network, attacked, targets), right)
    assert 12 > by_pass[0] >= by_pass[-1] > 0


@pytest.mark.parametrize("spec", [CW, AUTOATTACK, evaluation("pgd")], ids=lambda spec: spec.attack)
def test_the_batch_size_has_no_effect(make_job: MakeJob, upstream: Path, quick: None, spec: EvaluationStage) -> None:
    outcomes = []
    for number, batch_size in enumerate((1, 7, 100)):
        job = make_job("evaluations", f"{spec.id[:-1]}{number}", batch_size=batch_size)
        spec.run(job)
        outcomes.append(digest(job.directory / "outcome.parquet"))
    assert len(set(outcomes)) == 1


SHARDS = [[range(3), range(3, 30)], [range(12, 30), range(6, 12), range(6)], [range(9, 12)]]


@pytest.mark.parametrize("shards", SHARDS, ids=str)
@pytest.mark.parametrize("spec", [evaluation("pgd"), AUTOATTACK], ids=lambda spec: spec.attack)
def test_any_shards_in_any_order_end_in_the_bytes_of_one_job(
    make_job: MakeJob, upstream: Path, quick: None, spec: EvaluationStage, shards: list[range]
) -> None:
    """The last job computes what no shard did."""
    whole, shared = (make_job("evaluations", f"{spec.id[:-1]}{number}", batch_size=3) for number in range(2))
    spec.run(whole)
    for rows in shards:
        spec.row_pass(shared)(rows=rows)
    assert len(list(shared.partial.glob("*/rows-*.npz"))) >= len(shards)
    spec.run(shared)
    assert_same_files(whole, shared, "outcome.parquet", "summary.json")


@pytest.mark.parametrize(
    ("spec", "killed", "calls"),
    [(CW, (pgd, "withstands_pgd"), (2, 1)), (AUTOATTACK, (autoattack, "withstands_one"), (2, 1, 7))],
    ids=["cw", "aa"],
)
def test_an_evaluation_killed_again_and_again_ends_in_the_same_bytes(
    make_job: MakeJob,
    upstream: Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    spec: EvaluationStage,
    killed: tuple[ModuleType, str],
    calls: tuple[int, ...],
) -> None:
    straight = make_job("evaluations", spec.id, batch_size=8)
    spec.run(straight)
    broken = make_job("evaluations", f"{spec.id[:-1]}0", batch_size=8, checkpoint_seconds=0)
    for call in calls:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(*killed, killed_at(call, getattr(*killed)))
            spec.run(broken)
        assert not (broken.directory / "summary.json").exists()
    spec.run(broken)
    assert_same_files(straight, broken, "outcome.parquet", "summary.json")


def killed_at(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
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
    facts = SCORES.run(job)
    store = open_store(job.directory / "scores.zarr", pool_digest=open_pool(job.upstream("pools", POOL.id)).info.digest)
    margin, (_, labels) = store.read("margin"), images_and_labels()
    assert ((margin > 0) == (store.read("prediction") == labels)).all()
    assert ((margin > 0) == (np.arange(COUNT) % 4 != 0)).all()
    assert store.read("converged").all()
    assert (store.read("steps") >= 1).all()
    assert store.attributes["model_digest"] == digest(upstream / WEIGHTS_FILE)
    assert store.attributes["spec"] == SCORES.model_dump(mode="json")
    assert store.attributes["score"]["sign"].startswith("a large margin is an easy image")
    assert (facts["images"], facts["negative"], facts["censored"]) == (COUNT, 8, 0)
    assert facts["share_negative"] == pytest.approx(8 / COUNT)
    assert facts["quantiles"]["50%"] == pytest.approx(float(np.median(margin)))
    assert (job.directory / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_scores_by_boundary_search_count_the_censored(make_job: MakeJob, upstream: Path) -> None:
    settings = BoundarySearchSettings.model_validate({"step_size": "1/100", "max_steps": 3})
    spec = SCORES.model_copy(update={"settings": settings})
    assert spec.id != SCORES.id
    assert set(spec.definitions) - set(SCORES.definitions) == {"margins.boundary_search"}
    job = make_job("scores", spec.id, batch_size=8)
    facts = spec.run(job)
    store = open_store(job.directory / "scores.zarr")
    margin, converged = store.read("margin"), store.read("converged")
    assert facts["censored"] == int(np.sum(~converged)) == int(np.sum(np.isinf(margin)))
    assert 0 < facts["censored"] < COUNT
    assert np.abs(margin[converged]).max() <= 0.03 + 1e-6
    assert (store.read("steps")[~converged] == 3).all()


def test_scoring_killed_between_chunks_ends_the_same(
    make_job: MakeJob, upstream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "CHUNK_BATCHES", 1)
    straight = make_job("scores", SCORES.id, batch_size=8)
    SCORES.run(straight)
    broken = make_job("scores", "margins-0123456789", batch_size=8, checkpoint_seconds=0)
    for module, name, call in ((margins, "signed_margins", 3), (score_files, "draw_scores", 1)):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(module, name, killed_at(call, getattr(module, name)))
            SCORES.run(broken)
        assert len(list((broken.partial / "blocks").iterdir())) >= 2
    SCORES.run(broken)
    assert_same_files(straight, broken, "scores.zarr", "scores.png")


@pytest.mark.parametrize(("kind", "spec"), [("evaluations", CW), ("scores", SCORES)], ids=["evaluations", "scores"])
def test_a_diverged_model_is_refused_by_name(
    make_job: MakeJob, upstream: Path, kind: str, spec: EvaluationStage | MarginStage
) -> None:
    state = a_network().state_dict()
    state["7.bias"] = torch.full((10,), torch.nan)
    save_weights(state, upstream / WEIGHTS_FILE)
    with pytest.raises(UserError, match=f"{MODEL.id} gives logits that are not finite"):
        spec.run(make_job(kind, spec.id))


def test_a_summary_by_hand() -> None:
    columns = {
        "clean": np.array([1, 1, 1, 0], bool),
        "right": np.array([1, 0, 0, 0], bool),
        "zero_gradient": np.array([0, 1, 0, 1], bool),
        "broken_by": np.array([-1, 3, 0, -1]),
    }
    common = {"images": 4, "standard_error": pytest.approx((0.75 * 0.25 / 4) ** 0.5)}
    assert summarise("autoattack", columns, STANDARD, random=True) == {
        "clean": {"accuracy": 0.75, **common},
        "autoattack": {"accuracy": 0.25, **common, "zero_gradients": 2, "random": True, "square_gain": 0.25},
    }


def test_what_makes_a_number_doubtful() -> None:
    found = {"accuracy": 0.5, "images": 1000, "standard_error": 0.02, "zero_gradients": 3, "random": True}
    zero, random, square = doubts({"clean": {"accuracy": 1.0}, "autoattack": {**found, "square_gain": 0.0021}})
    assert "autoattack: 3 of 1000 images" in zero
    assert "autoattack: " in random
    assert "at random" in random
    assert "autoattack: Square broke 0.2 points" in square
    assert doubts({"cw": {**found, "zero_gradients": 0, "random": False, "square_gain": 0.002}}) == []


def test_summaries_of_one_model_come_together(tmp_path: Path) -> None:
    for name, images in (("a", 10), ("b", 30), ("c", 20)):
        (tmp_path / name).mkdir()
        content = {"clean": {"images": images}, name: {"accuracy": 0.5, "images": images}}
        (tmp_path / name / "summary.json").write_text(json.dumps(content))
    together = read_summaries(tmp_path / name for name in "abc")
    assert together["clean"]["images"] == 30
    assert {name: together[name]["images"] for name in "abc"} == {"a": 10, "b": 30, "c": 20}


def test_subsets_are_balanced_nested_and_the_same_for_ever() -> None:
    labels = np.repeat([0, 1, 2], [5, 50, 45])
    rows = balanced_subset(labels, 12, classes=3)
    assert np.bincount(labels[rows]).tolist() == [4, 4, 4]
    assert np.bincount(labels[balanced_subset(labels, 14, classes=3)]).tolist() == [5, 5, 4]
    assert set(rows) < set(balanced_subset(labels, 15, classes=3))
    assert rows[4:8].tolist() == [7, 13, 45, 47]
    assert np.bincount(labels[balanced_subset(labels, 18, classes=3)]).tolist() == [5, 7, 6]  # class 0 has 5
    for count in (None, 100, 1000):
        assert balanced_subset(labels, count, classes=3).tolist() == list(range(100))


class Dead(nn.Module):
    """Logits of a linear network where the first pixel is above 1/2, and none that depend on the image elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))

    def forward(self, images: Tensor) -> Tensor:
        alive: Tensor = images[:, 0, 0, :1] > 0.5
        logits: Tensor = self.network(images * alive[:, None, None])
        return logits


def test_gradients_of_zero_are_found_where_autoattack_finds_them(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    images, model = torch.rand(40, 1, 4, 4), Dead().eval().requires_grad_(False)
    images[:, 0, 0, 0] = torch.linspace(0, 1, 40)
    labels, threat = model(images).argmax(1), ThreatModel.model_validate({"epsilon": "1/1000"})

    def margin(logits: Tensor) -> Tensor:
        return cw_objective(logits, labels=labels, kappa=torch.inf)

    found = zero_gradients(model, images, torch.arange(40), objective=margin, threat=threat, seed=0)
    assert found.tolist() == [True] * 20 + [False] * 20
    logger = logging.getLogger("auto-attack")
    filters, logger.filters = logger.filters, []
    try:
        package = AutoAttack(model, eps=0.001, norm="Linf", seed=0, version="standard")
        package.attacks_to_run, package.apgd_targeted.n_target_classes = ["apgd-t"], 1
        with caplog.at_level(logging.DEBUG, logger="auto-attack"):
            package.run_standard_evaluation(images, labels)
    finally:
        logger.filters = filters
    assert "there are 20 points with zero gradient" in caplog.text


def test_a_saturated_softmax_leaves_a_gradient_to_the_margin_but_not_to_cross_entropy() -> None:
    torch.manual_seed(0)
    images = torch.rand(8, 1, 4, 4)
    layer = nn.Linear(16, 5).requires_grad_(False)
    layer.weight.mul_(1e4)
    model = nn.Sequential(nn.Flatten(), layer)
    labels, threat, ids = model(images).argmax(1), ThreatModel.model_validate({"epsilon": "1/1000"}), torch.arange(8)
    by_margin, by_cross_entropy = (
        zero_gradients(model, images, ids, objective=objective_of(pgd, labels), threat=threat, seed=0)
        for pgd in (Pgd(objective="margin", steps=1), Pgd(objective="cross_entropy", steps=1))
    )
    assert by_cross_entropy.sum() >= 6
    assert not by_margin.any()


def test_a_model_that_answers_at_random_is_found() -> None:
    images = torch.rand(8, 1, 8, 8)
    assert not answers_at_random(a_network(), images)
    noisy = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.1)).train().requires_grad_(False)
    assert answers_at_random(noisy, images)


def test_a_pgd_start_depends_on_the_samples_id_alone() -> None:
    images, targets = as_tensors(*images_and_labels())
    settings = Pgd(objective="margin", steps=1, restarts=2)

    def found(rows: Tensor) -> Tensor:
        return withstands_pgd(a_network(), images[rows], targets[rows], rows, threat=THREAT, settings=settings, seed=3)

    shuffled = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found(shuffled), found(torch.arange(COUNT))[shuffled])


@pytest.mark.parametrize(("norm", "epsilon"), [("Linf", "0.018"), ("L2", "0.08")])
@pytest.mark.parametrize("objective", ["margin", "cross_entropy"])
def test_restarts_are_single_runs_of_which_every_one_is_withstood(
    norm: str, epsilon: str, objective: Literal["margin", "cross_entropy"]
) -> None:
    """Against a plain loop: each start alone, every image attacked each time; none of them does as well as all."""
    images, targets = as_tensors(*images_and_labels())
    network, ids = a_network(), torch.arange(COUNT)
    threat = ThreatModel.model_validate({"norm": norm, "epsilon": epsilon})
    settings = Pgd(objective=objective, steps=1, step=Fraction(1, 4), restarts=4)
    alone = []
    for purpose in ("pgd start", "pgd start 1", "pgd start 2", "pgd start 3"):
        attacked = pgd_from_own_starts(
            network,
            images,
            ids,
            threat=threat,
            steps=1,
            step_size=float(threat.epsilon) / 4,
            objective=objective_of(settings, targets),
            seed=6,
            purpose=purpose,
        )
        alone.append(is_right(network, attacked, targets))
    found = withstands_pgd(network, images, targets, ids, threat=threat, settings=settings, seed=6)
    assert torch.equal(found, torch.stack(alone).all(0))
    assert 0 < int(found.sum()) < min(int(right.sum()) for right in alone)


def test_autoattack_leaves_the_global_generator_alone_and_repeats_itself() -> None:
    images, targets = (part[1:4] for part in as_tensors(*images_and_labels()))
    network, before = a_network(), torch.get_rng_state()
    first, second = (withstands_one("square", network, images, targets, 0, threat=THREAT, seed=1) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("classes", [3, 5])
def test_autoattack_takes_models_of_few_classes_but_not_of_three(classes: int) -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 1, 8, 8)
    network = build_model("small_cnn", image_shape=(1, 8, 8), classes=classes).eval().requires_grad_(False)
    threat = ThreatModel.model_validate({"norm": "L2", "epsilon": 1})
    attack = partial(withstands_one, "apgd-t", network, images, network(images).argmax(1), 0, threat=threat, seed=0)
    if classes == 3:
        with pytest.raises(UserError, match=r"has 3 classes, .* 4 or more"):
            attack()
    else:
        assert not attack().all()


def test_autoattacks_log_has_each_kind_of_warning_once(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("auto-attack")
    with caplog.at_level(logging.DEBUG, logger="auto-attack"):
        logger.info("of no interest")
        logger.warning("there are 5 points of a kind made up for this test")
        logger.warning("there are 7 points of a kind made up for this test")
    assert [record.getMessage()[:11] for record in caplog.records] == ["there are 5"]


def test_the_public_models_clean_accuracy(fgsm_model: nn.Module, mnist_test: tuple[Tensor, Tensor]) -> None:
    """98.50 % by the script of the authors."""
    images, labels = mnist_test
    right = [is_right(fgsm_model, images[row : row + 1000], labels[row : row + 1000]) for row in range(0, 10_000, 1000)]
    assert int(torch.cat(right).sum()) == 9850


def test_pgd_50_10_is_at_most_pgd_from_one_start(fgsm_model: nn.Module, mnist_test: tuple[Tensor, Tensor]) -> None:
    """The authors report 88.77 % of all images; benchmarks/evaluation.py measures that."""
    images, labels, ids = mnist_test[0][:40], mnist_test[1][:40], torch.arange(40)
    threat = ThreatModel.model_validate({"norm": "Linf", "epsilon": "0.3"})
    whole = EvaluationSettings.model_validate({"pgd_50_10": {"step": "1/30"}}).pgd_named("pgd_50_10")
    assert whole is not None
    assert (whole.steps, whole.restarts) == (50, 10)
    one = whole.model_copy(update={"restarts": 1})
    worst, single = (
        withstands_pgd(fgsm_model, images, labels, ids, threat=threat, settings=settings, seed=0)
        for settings in (whole, one)
    )
    assert not (worst & ~single).any()
    assert 28 < int(worst.sum()) <= int(single.sum())
