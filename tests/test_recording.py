"""What trainings record: the models they had, epoch after epoch, whatever kills them, and without a trace in them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from processes import Killed
from robustprune.attacks.cross_entropy import attack_cross_entropy
from robustprune.core import job
from robustprune.core.errors import Interrupted, UserError
from robustprune.core.execution import Execution
from robustprune.core.files import digest
from robustprune.core.interruption import Checkpoints
from robustprune.core.job import run_stage
from robustprune.core.paths import KEPT_RECORD_FILE, RECORD_FILE, dynamics_name
from robustprune.core.record import read_record
from robustprune.core.stage_file import read_spec
from robustprune.core.steps import CHECKPOINT_FILE, load_state
from robustprune.images.pool import open_pool
from robustprune.networks.weights import RAW_FILE, WEIGHTS_FILE, load_model, load_weights
from robustprune.planning.plan import Plan
from robustprune.scores.metric import evenly_spaced
from robustprune.scores.store.reader import Store, open_store
from robustprune.training.dynamics import STATE_FILE, Recorder
from robustprune.training.model import ModelStage
from tiny import plan_of_scores, run_upstream, spec_of

EXECUTION = Execution(device="cpu", batch_size=256)


def models_of(plan: Plan, word: str) -> list[str]:
    return [stage for stage, spec in plan.stages.items() if spec.kind == "models" and stage.startswith(word)]


def run(plan: Plan, stage: str) -> Path:
    """Do a stage and what it reads; returns its directory."""
    run_upstream(plan, stage)
    run_stage(plan.directory(stage) / "spec.json", EXECUTION)
    return plan.directory(stage)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a TRADES model whose four epochs are recorded."""
    plan = plan_of_scores(tmp_path_factory.mktemp("recorded"), "difficulty")
    (model,) = models_of(plan, "recorded-trades")
    return run(plan, model)


def spec_and_store(directory: Path) -> tuple[ModelStage, Store, Any]:
    spec = read_spec(directory)
    assert isinstance(spec, ModelStage)
    pool = open_pool(directory.parents[1] / "pools" / spec.real)
    return spec, open_store(directory / dynamics_name(spec.real), pool_digest=pool.info.digest), pool


def expected(model: nn.Module, images: torch.Tensor, labels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """Confidence, error and correct in float64."""
    logits = model(images).detach().double().numpy()
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = shifted / shifted.sum(1, keepdims=True)
    hot = np.eye(10)[labels]
    error = np.sqrt(((probabilities - hot) ** 2).sum(1))
    return (probabilities * hot).sum(1), error, logits.argmax(1) == labels


@pytest.mark.parametrize("trajectory", ["clean", "adversarial", "clean_averaged"])
def test_the_last_epoch_is_what_the_published_weights_say(trajectory: str, recorded: Path) -> None:
    spec, store, pool = spec_and_store(recorded)
    model = load_model(recorded, torch.device("cpu"))
    if "averaged" not in trajectory:
        model.load_state_dict(load_weights(recorded / RAW_FILE))
    images = torch.from_numpy(np.array(pool.images)).float() / 255
    if trajectory == "adversarial":
        assert spec.recording is not None
        assert spec.threat is not None
        labels, ids = torch.from_numpy(pool.labels.astype(np.int64)), torch.arange(len(pool))
        how: dict[str, Any] = {"attack": spec.recording.attack, "threat": spec.threat, "seed": spec.seed}
        images = attack_cross_entropy(model, images, labels, ids, **how, purpose="recording 0 4")
    confidence, error, correct = expected(model, images, pool.labels)
    np.testing.assert_allclose(store.read(f"{trajectory}_confidence")[-1], confidence, atol=1e-3)
    np.testing.assert_allclose(store.read(f"{trajectory}_error")[-1], error, atol=2e-3)
    assert np.mean(store.read(f"{trajectory}_correct")[-1] == correct) > 0.999  # a tie may round another way


def test_the_model_learns_and_the_attack_hurts_it(recorded: Path) -> None:
    _, store, _ = spec_and_store(recorded)
    clean, adversarial = (store.read(f"{name}_correct").mean(axis=1) for name in ("clean", "adversarial"))
    assert store.attributes["recorded_after"] == [1, 2, 3, 4]
    assert clean[-1] > clean[0]
    assert adversarial[-1] < clean[-1]
    facts = read_record(recorded).facts
    assert facts["recording_seconds"] > 0
    assert facts["training_seconds"] + facts["recording_seconds"] < read_record(recorded).seconds


def test_recording_leaves_no_trace_in_the_training(recorded: Path, tmp_path: Path) -> None:
    plan = plan_of_scores(tmp_path, "loss")
    unrecorded = run(plan, models_of(plan, "trades")[0])
    for name in (WEIGHTS_FILE, RAW_FILE, "history.parquet"):
        assert digest(recorded / name) == digest(unrecorded / name)


def test_a_part_of_the_epochs_is_those_epochs_of_the_whole(recorded: Path, tmp_path: Path) -> None:
    plan = plan_of_scores(
        tmp_path, "difficulty", overrides={"dynamics": {"recording": {"epochs": 2}, "every_epoch_up_to": 0}}
    )
    half = run(plan, models_of(plan, "recorded-trades")[0])
    _, whole, _ = spec_and_store(recorded)
    _, part, _ = spec_and_store(half)
    assert part.attributes["recorded_after"] == [2, 4]
    for column in part.dtypes:
        np.testing.assert_array_equal(part.read(column), whole.read(column)[[1, 3]])
    assert digest(half / WEIGHTS_FILE) == digest(recorded / WEIGHTS_FILE)


def killing_tick(at: int, *, saved: bool) -> Callable[..., None]:
    """A ``tick`` that ends the process at its call number ``at``: before anything is saved, or by a signal."""
    calls = 0

    def tick(checkpoints: Checkpoints, save: Callable[[], None]) -> None:
        nonlocal calls
        calls += 1
        if calls == at and not saved:
            raise Killed
        if calls % 3 == 0 or calls == at:
            save()
        if calls == at:
            raise Interrupted("stopped")

    return tick


@pytest.mark.parametrize("saved", [True, False], ids=["by a signal", "by kill -9"])
def test_killed_in_training_and_in_recording_it_ends_in_the_same_bytes(
    saved: bool, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of_scores(tmp_path, "difficulty")
    (model,) = models_of(plan, "recorded-trades")
    run_upstream(plan, model)
    partial = plan.directory(model) / "partial"
    in_recording, seconds = 0, 0.0
    # An epoch is 8 steps, its recording 6 batches: kills fall into both, at many places.
    for at in (5, 6, 12, 3, 9, 2, 7):
        monkeypatch.setattr(Checkpoints, "tick", killing_tick(at, saved=saved))
        with pytest.raises((Interrupted, Killed)):
            run_stage(plan.directory(model) / "spec.json", EXECUTION)
        broken_off = any(partial.glob("recording-*/*.npz"))
        state = load_state(partial / CHECKPOINT_FILE) or {"apart": {}}
        seconds, before = state["apart"].get("recording", 0.0), seconds
        assert seconds > before or not broken_off  # the time it took is not lost
        in_recording += broken_off
    monkeypatch.undo()
    assert 0 < in_recording < 7
    run_stage(plan.directory(model) / "spec.json", EXECUTION)
    for name in (WEIGHTS_FILE, RAW_FILE, "history.parquet"):
        assert digest(plan.directory(model) / name) == digest(recorded / name)
    (_, ours, _), (_, theirs, _) = spec_and_store(plan.directory(model)), spec_and_store(recorded)
    assert ours.files == theirs.files
    assert ours.attributes == theirs.attributes


def raising_killed(*arguments: Any, **options: Any) -> None:
    raise Killed


def test_killed_when_a_pool_is_recorded_it_still_has_its_rows(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a pool is recorded is noted before its rows go, and a note that was not written costs no row."""
    plan = plan_of_scores(tmp_path, "difficulty")
    (model,) = models_of(plan, "recorded-trades")
    run_upstream(plan, model)
    directory = plan.directory(model)
    for killed_in in ("write_text", "shutil.rmtree"):
        monkeypatch.setattr(f"robustprune.training.dynamics.{killed_in}", raising_killed)
        with pytest.raises(Killed):
            run_stage(directory / "spec.json", EXECUTION)
        monkeypatch.undo()
        assert len({file.parent for file in (directory / "partial").glob("recording-*/*.npz")}) == 1
        assert (directory / "partial" / STATE_FILE).exists() == (killed_in == "shutil.rmtree")
    run_stage(directory / "spec.json", EXECUTION)
    (_, ours, _), (_, theirs, _) = spec_and_store(directory), spec_and_store(recorded)
    assert ours.files == theirs.files


@pytest.mark.parametrize("weights", ["raw", "averaged"])
def test_only_weights_that_a_trajectory_asks_for_are_copied(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trajectory = "clean" if weights == "raw" else "clean_averaged"
    copied: list[str] = []
    original = Recorder._record_pool

    def listening(self: Recorder, epoch: int, pool: str, frozen: dict[str, nn.Module]) -> None:
        copied.extend(frozen)
        original(self, epoch, pool, frozen)

    monkeypatch.setattr(Recorder, "_record_pool", listening)
    dynamics = {"recording": {"trajectories": [trajectory]}, "difficulty": {"weights": weights}}
    plan = plan_of_scores(tmp_path, "difficulty", overrides={"dynamics": dynamics})
    run(plan, models_of(plan, "recorded-trades")[0])
    assert set(copied) == {weights}


@pytest.mark.parametrize("killed_in", ["make_record", "move_over"])
def test_killed_while_it_publishes_it_still_ends(
    killed_in: str, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording that has been published is no longer in ``partial/``, and must not be made again from nothing."""
    results = tmp_path / recorded.parents[1].name
    shutil.copytree(recorded.parents[1], results)
    directory = results / recorded.relative_to(recorded.parents[1])
    for name in (RECORD_FILE, KEPT_RECORD_FILE):
        (directory / name).unlink()
    original, calls = getattr(job, killed_in), 0

    def killed(*arguments: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if killed_in == "make_record" or calls > 4:  # 4: weights, raw weights, history, recording
            raise Killed
        original(*arguments, **options)

    monkeypatch.setattr(job, killed_in, killed)
    with pytest.raises(Killed):
        run_stage(directory / "spec.json", EXECUTION)
    monkeypatch.undo()
    run_stage(directory / "spec.json", EXECUTION)
    assert read_record(directory).digests == read_record(recorded).digests


IMPOSSIBLE: list[tuple[str, dict[str, Any], str]] = [
    ("uncertainty", {"uncertainty": {"window": 4}}, r"uncertainty.window = 4 .* 4 epochs"),
    ("difficulty", {"difficulty": {"checkpoints": 5}}, r"difficulty.checkpoints = 5, .* 4 epochs"),
    (
        "difficulty",
        {"recording": {"epochs": 5}, "every_epoch_up_to": 0},
        r"recording.epochs = 5, .* training.trades.epochs = 4",
    ),
    ("uncertainty_tilde", {"recording": {"trajectories": ["clean"]}}, r"trajectories = \['clean'\] lacks adversarial"),
    ("forgetting", {}, r"training.standard.synthetic_fraction = 0.0"),
]


@pytest.mark.parametrize(("score", "dynamics", "says"), IMPOSSIBLE, ids=[case[2][:30] for case in IMPOSSIBLE])
def test_a_score_that_cannot_be_is_refused_before_anything_runs(
    score: str, dynamics: dict[str, Any], says: str, tmp_path: Path
) -> None:
    overrides: dict[str, Any] = {"dynamics": dynamics}
    if score == "forgetting":  # of images that only the other training sees
        overrides |= {"synthetic": {"source": "generate"}, "training": {"trades": {"synthetic_fraction": 0.5}}}
    with pytest.raises(UserError, match=f"score {score} is unavailable.*{says}"):
        plan_of_scores(tmp_path, score, overrides=overrides)


@pytest.mark.parametrize(("most", "recorded"), [(1297, None), (1296, 2)])
def test_a_training_on_few_images_records_every_epoch(most: int, recorded: int | None, tmp_path: Path) -> None:
    """DU and FP of a part of the epochs are others: windows of J span many more epochs than the paper's."""
    overrides = {"dynamics": {"recording": {"epochs": 2}, "every_epoch_up_to": most}}
    plan = plan_of_scores(tmp_path, "difficulty", overrides=overrides)
    recordings = [spec.recording for spec in plan.stages.values() if isinstance(spec, ModelStage) and spec.recording]
    assert {recording.epochs for recording in recordings} == {recorded}


def test_only_models_that_a_score_needs_are_recorded(tmp_path: Path) -> None:
    assert models_of(plan_of_scores(tmp_path, "margin", "loss"), "recorded") == []
    plan = plan_of_scores(tmp_path, "difficulty", "uncertainty_tilde", "uncertainty", "el2n", "forgetting")
    recorded = models_of(plan, "recorded")
    assert [stage.rsplit("-", 1)[0] for stage in recorded] == [
        "recorded-trades-smallcnn-seed0", "recorded-standard-smallcnn-seed0", "recorded-standard-smallcnn-seed1",
    ]  # fmt: skip
    for stage in recorded:
        spec = spec_of(plan, stage, ModelStage)
        assert spec.recording is not None
        assert ("adversarial" in spec.recording.trajectories) == (spec.training.recipe == "trades")


def test_epochs_are_evenly_spaced_and_end_with_the_last() -> None:
    assert evenly_spaced(400, 50) == tuple(range(8, 401, 8))
    assert evenly_spaced(10, 4) == (2, 5, 7, 10)
    assert evenly_spaced(3, 3) == (1, 2, 3)
    with pytest.raises(ValueError, match="no 4 different numbers from 1 to 3"):
        evenly_spaced(3, 4)
