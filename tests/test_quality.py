"""How good generated images are: against SciPy and closed forms, copies that are planted, and classes by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm

from robustprune.cli.main import main
from robustprune.core.errors import Interrupted, UserError
from robustprune.core.execution import Execution
from robustprune.core.files import sha256
from robustprune.core.interruption import Checkpoints
from robustprune.core.job import Job, run_stage
from robustprune.core.record import read_record
from robustprune.core.stage_file import read_spec
from robustprune.core.yaml_files import merge
from robustprune.evaluation.quality.measuring import Seen, frechet_distance
from robustprune.evaluation.quality.memorisation import RealNeighbours
from robustprune.evaluation.quality.quality_stage import QualityStage
from robustprune.evaluation.quality.report import by_class, report_table, summary
from robustprune.experiments.papers import load_experiments
from robustprune.images.pool import Pool, open_pool
from robustprune.images.writing import write_pool
from robustprune.networks.weights import load_model
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.scores.selected_pool import SelectedPoolStage
from stopping import StopAfterTwo
from tiny import SELECTED, TINY, plan_of_quality, run_upstream, stage_of

CPU = Execution(device="cpu")
Ready = tuple[Plan, str]


def test_frechet_distance_of_one_dimension_by_hand() -> None:
    """(m - m')^2 + (s - s')^2: means 2 and 5, deviations 1 and 3."""
    some, others = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [5.0], [8.0]])
    assert frechet_distance(some, others) == pytest.approx((2 - 5) ** 2 + (1 - 3) ** 2)


def test_frechet_distance_is_scipys() -> None:
    rng = np.random.default_rng(0)
    some = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) + 1
    others = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6))
    covariances = np.cov(some, rowvar=False), np.cov(others, rowvar=False)
    cross = sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(some.mean(0) - others.mean(0)).sum() + np.trace(sum(covariances) - 2 * cross)
    assert frechet_distance(some, others) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(others, some) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_what_has_no_spread_in_a_direction() -> None:
    """A unit of a network that never fires, and fewer images than dimensions."""
    some = np.random.default_rng(0).normal(size=(5, 20)).astype(np.float32)
    some[:, 3] = 0
    assert frechet_distance(some, some) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(some, some + 2) == pytest.approx(20 * 4, rel=1e-5)


def pool_of(make_job: Callable[..., Job], name: str, images: np.ndarray) -> Pool:
    job = make_job("pools", name)
    write_pool(job, images, np.zeros(len(images), np.int64), dataset="noise", source="a test", classes=4)
    return open_pool(job.directory)


def test_nearest_real_images_are_those_of_brute_force(make_job: Callable[..., Job]) -> None:
    rng = np.random.default_rng(0)
    real, images = (rng.integers(256, size=(n, 3, 8, 8), dtype=np.uint8) for n in (90, 20))
    images[4] = real[17]
    job = make_job("qualities", "some")
    distance, rows = RealNeighbours(job, pool_of(make_job, "real", real)).of(images)
    differences = (images[:, None].astype(float) - real[None]).reshape(20, 90, -1) / 255
    every = np.linalg.norm(differences, axis=2)
    np.testing.assert_array_equal(rows, every.argmin(1))
    np.testing.assert_allclose(distance, every.min(1), rtol=1e-6)
    assert distance[4] == 0
    assert not any(job.partial.iterdir())


def test_large_images_are_averaged_down(make_job: Callable[..., Job]) -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(256, size=(12, 1, 32, 32), dtype=np.uint8)
    large = small.repeat(2, axis=2).repeat(2, axis=3)
    train = pool_of(make_job, "large", large)
    job = make_job("qualities", "some", batch_size=5)
    job.checkpoints = StopAfterTwo(0)
    with pytest.raises(Interrupted):
        RealNeighbours(job, train)
    assert (job.partial / "pixels.txt").read_text() == "10"
    job.checkpoints = Checkpoints(60)
    neighbours = RealNeighbours(job, train)
    assert np.array_equal(np.load(job.partial / "pixels.npy"), small.reshape(12, -1))
    shifted = np.roll(large[[7, 2]], 1, axis=2)
    distance, rows = neighbours.of(np.concatenate([large[[3]], shifted]))
    assert rows.tolist() == [3, 7, 2]
    assert distance[0] == 0
    assert (distance[1:] > 1).all()


def seen_of(labels: list[int], right: list[bool], distance: list[float], shift: float = 0) -> Seen:
    count = len(labels)
    return Seen(
        rows=np.arange(count),
        labels=np.array(labels),
        features=np.linspace(-1, 1, count, dtype=np.float32)[:, None] + np.float32(shift),
        right=np.array(right),
        probability=np.where(right, 0.75, 0.25).astype(np.float32),
        distance=np.array(distance, np.float32),
        neighbour=np.zeros(count, np.int64),
    )


def test_report_by_hand() -> None:
    generated = seen_of([0, 0, 1, 1], [True, False, True, True], [0.0, 0.2, 3.0, 4.0], shift=2)
    held_out = seen_of([0, 1, 1], [True, True, False], [1.0, 2.0, 3.0])
    train = seen_of([0] * 3, [True] * 3, [float("nan")] * 3)
    whole, classes = summary(generated, held_out, train), by_class(generated, held_out, 3)
    assert (whole["agreement"], whole["judge_accuracy"]) == (0.75, pytest.approx(2 / 3))
    nearest = [whole[name] for name in ("copies", "near", "nearest", "nearest_held_out")]
    assert nearest == pytest.approx([1, 0.5, 1.6, 2])
    assert whole["frechet_of_real"] == pytest.approx(0, abs=1e-9)
    # Three of 4 images, evenly spaced: mean 5/3 and deviation 2/3 beside 0 and 1.
    assert whole["frechet"] == pytest.approx((5 / 3) ** 2 + (1 / 3) ** 2)
    assert classes["0"]["agreement"] == 0.5
    assert classes["1"] == {
        "images": 2, "agreement": 1.0, "probability": 0.75, "judge_accuracy": 0.5, "nearest": 3.5,
        "nearest_held_out": 2.5,
    }  # fmt: skip
    assert classes["2"]["images"] == 0
    assert np.isnan(classes["2"]["agreement"])
    table = report_table(whole, classes)
    assert table["class"].tolist() == ["all", "0", "1", "2"]
    assert table["frechet"].notna().tolist() == [True, False, False, False]


def test_pools_sorted_by_class_are_compared_by_all_their_classes() -> None:
    """Features that rise with the class: the images that were held out, beside ten times as many of each other pool."""
    held_out = seen_of([0, 1] * 50, [True] * 100, [1.0] * 100)
    sorted_by_class = seen_of([0, 1] * 500, [True] * 1000, [1.0] * 1000)
    for generated, train in ((sorted_by_class, held_out), (held_out, sorted_by_class)):
        found = summary(generated, held_out, train)
        assert found["frechet_images"] == 100
        assert max(found["frechet"], found["frechet_of_real"]) < 1e-3


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """A plan with a selection of 300 generated images, and the stage that judges it, all of whose upstream is there."""
    plan = plan_of_quality(tmp_path_factory.mktemp("quality") / "results")
    stage_id = stage_of(plan, "qualities")
    run_upstream(plan, stage_id)
    return plan, stage_id


def test_selection_keeps_the_images_of_each_class_of_the_highest_probability(ready: Ready) -> None:
    plan, _ = ready
    selected = plan.directory(stage_of(plan, "pools", "selected"))
    pool, parent = open_pool(selected), open_pool(plan.directory(stage_of(plan, "pools", "generated")))
    spec = read_spec(selected)
    assert isinstance(spec, SelectedPoolStage)
    model = stage_of(plan, "models", "seed0")
    with torch.no_grad():
        logits = load_model(plan.directory(model), torch.device("cpu"))(torch.tensor(parent.images[:]) / 255)
    probability = logits.softmax(1).numpy()
    of_label = probability[np.arange(300), parent.labels]
    rows = np.load(selected / "rows.npy")
    for label in range(10):
        of_class = np.flatnonzero(parent.labels == label)
        kept = np.intersect1d(rows, of_class)
        assert len(kept) == 10  # a third of 30
        assert of_label[kept].min() >= np.delete(of_label[of_class], np.searchsorted(of_class, kept)).max()
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(pool.images[:], parent.images[:][rows])
    assert np.array_equal(pool.labels, parent.labels[rows])
    assert pool.info.selected == (pool.info.source,)
    assert f"0.3333 of each class that {model} is surest of" in pool.info.source
    facts = read_record(selected).facts
    assert facts["selection"]["3"]["images"] == 30
    lowest = of_label[rows[parent.labels[rows] == 3]].min()
    assert facts["selection"]["3"]["lowest_probability"] == pytest.approx(float(lowest), rel=1e-4)
    assert read_record(plan.directory(stage_of(plan, "pools", "generated"))).facts["selected"] == []


def test_quality_is_measured_shown_and_pictured(ready: Ready, capsys: pytest.CaptureFixture[str]) -> None:
    plan, stage_id = ready
    directory = plan.directory(stage_id)
    run_stage(directory, CPU)
    facts = read_record(directory).facts
    assert facts["images"] == 100
    assert 0 < facts["frechet_of_real"] < facts["frechet"]
    assert facts["judge_accuracy"] > 0.5
    agreeing = sum(found["agreement"] * found["images"] for found in facts["by_class"].values())
    assert agreeing == pytest.approx(facts["agreement"] * 100)
    assert "is surest of" in facts["selected"][0]
    assert facts["nearest_held_out"] > 0
    table = pd.read_csv(directory / "table.csv")
    assert len(table) == 11
    assert sorted(path.name for path in (directory / "sheets").iterdir()) == [f"{label}.png" for label in range(10)]
    with Image.open(directory / "nearest.png") as picture:
        assert picture.height < 200
    assert main(["show", str(directory)]) == 0
    shown = capsys.readouterr().out
    assert f"agreement: {facts['agreement']}" in shown
    assert "probability" in shown


def test_judge_and_selector_are_two_models(ready: Ready) -> None:
    plan, stage_id = ready
    spec = plan.stages[stage_id]
    assert isinstance(spec, QualityStage)
    assert spec.model == stage_of(plan, "models", "seed1")
    assert stage_of(plan, "models", "seed0") != spec.model
    assert "synthetic_fraction': 0.0" in str(plan.stages[spec.model].model_dump())


def test_a_killed_job_goes_on_to_the_same_bytes(ready: Ready, make_job: Callable[..., Job]) -> None:
    plan, stage_id = ready
    spec = plan.stages[stage_id]
    assert isinstance(spec, QualityStage)
    whole, broken = (make_job("qualities", name, batch_size=16) for name in ("whole", "broken"))
    for kind, upstream in {*spec.upstream, *plan.stages[spec.pool].upstream[:1]}:
        link = whole.upstream(kind, upstream)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(plan.directory(upstream))
    facts = spec.run(whole)
    broken.checkpoints = StopAfterTwo(0)
    with pytest.raises(Interrupted):
        spec.run(broken)
    broken.checkpoints = Checkpoints(0)
    assert spec.run(broken) == facts
    for name in ("table.csv", "nearest.png", "sheets/4.png"):
        assert (whole.directory / name).read_bytes() == (broken.directory / name).read_bytes()


def test_a_checkpoint_that_selected_is_not_to_judge(tmp_path: Path) -> None:
    checkpoint = tmp_path / "theirs.safetensors"
    checkpoint.write_bytes(b"weights")
    overrides = {
        "selections": {"best": {"classifier": "theirs"}},
        "checkpoints": {"theirs": {"path": str(checkpoint), "sha256": sha256(checkpoint), "architecture": "small_cnn"}},
        "quality": {"classifier": "theirs"},
    }
    with pytest.raises(UserError, match=r"quality\.classifier = theirs selected the images of selection:best"):
        make_plan(load_config(merge(TINY, merge(SELECTED, overrides))), {}, quality=True)


def test_quality_is_a_target_where_there_are_generated_images() -> None:
    tables = load_experiments()
    assert "results/quality.csv" in make_plan(load_config(TINY), tables, quality=True).targets
    none = merge(TINY, {"synthetic": {"source": "none"}, "training": {"trades": {"synthetic_fraction": 0}}})
    assert "results/quality.csv" not in make_plan(load_config(none), tables, quality=True).targets
