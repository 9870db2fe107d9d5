"""The extrapolation stage on small pools with known scores, against loops; and the plan that leads to it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import yaml
from sklearn.neighbors import KNeighborsRegressor

from robustprune.core.errors import Interrupted, UserError
from robustprune.core.execution import Execution
from robustprune.core.interruption import Checkpoints
from robustprune.core.job import Job, run_stage
from robustprune.core.record import read_record
from robustprune.core.stage import Stage
from robustprune.core.yaml_files import merge
from robustprune.experiments.tables.forms import Table
from robustprune.generation.generated_pool import GeneratedPoolStage
from robustprune.images.pool import open_pool
from robustprune.images.writing import write_pool
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.pruning.manifest import read_manifest
from robustprune.pruning.prune import ManifestStage
from robustprune.scores.dynamics_score import DynamicsScoreStage
from robustprune.scores.embedding import EmbeddingStage, ModelEncoder
from robustprune.scores.embedding_files import EmbeddingInfo, open_embeddings, write_embeddings
from robustprune.scores.extrapolated import ExtrapolatedScoreStage
from robustprune.scores.extrapolation import hold_out
from robustprune.scores.margin import MarginStage
from robustprune.scores.score_files import read_score
from robustprune.scores.store.reader import open_store
from robustprune.scores.store.writer import write_store
from robustprune.training.model import ModelStage
from stopping import StopAfterTwo
from tiny import TINY

MakeJob = Callable[..., Job]
Features = npt.NDArray[np.float32]

REAL, SOURCE, TARGET = (f"some-{word}-0123456789" for word in ("real", "source", "target"))
MEANING = {"column": "margin", "unit": "metres", "easy": "high", "sign": "large is easy"}
COUNTS = {REAL: 120, SOURCE: 80, TARGET: 50}


def score_of(features: Features) -> npt.NDArray[np.float32]:
    """A smooth function of the embedding, so that neighbours say something of it."""
    return np.sin(features[:, 0]) + features[:, 1]


class World:
    """Three pools of random images with embeddings, the first two with scores."""

    def __init__(self, make_job: MakeJob) -> None:
        self.make_job = make_job
        source = np.random.default_rng(0)
        self.images = {pool: source.integers(0, 256, (n, 1, 4, 4), dtype=np.uint8) for pool, n in COUNTS.items()}
        self.features = {pool: source.standard_normal((n, 3), dtype=np.float32) for pool, n in COUNTS.items()}
        self.scores = {pool: score_of(self.features[pool]) for pool in (REAL, SOURCE)}
        self.meanings: dict[str, dict[str, str]] = {REAL: MEANING, SOURCE: MEANING}

    def write(self) -> None:
        """Put everything where jobs look for it."""
        for pool, images in self.images.items():
            count, features = len(images), self.features[pool]
            labels, job = np.zeros(count, int), self.make_job("pools", pool)
            digest = write_pool(job, images, labels, dataset="some", source="a test", classes=4).digest
            common = {"pool_digest": digest, "encoder": "a test", "count": count, "dtype": "float32"}
            info = EmbeddingInfo.model_validate({**common, "dimension": features.shape[1]})
            write_embeddings(self.make_job("embeddings", pool).directory, iter([features]), info)
            if pool in self.scores:
                attributes = {"pool_digest": digest, "score": self.meanings[pool]}
                store = self.make_job("scores", pool).directory / "scores.zarr"
                write_store(store, [{"margin": self.scores[pool]}], count, attributes)


@pytest.fixture
def world(make_job: MakeJob) -> World:
    return World(make_job)


def spec_of(*sources: str, target: str = TARGET, **settings: Any) -> ExtrapolatedScoreStage:
    return ExtrapolatedScoreStage.model_validate(
        {
            "pool": target,
            "embedding": target,
            "sources": [{"pool": source, "score": source, "embedding": source} for source in sources],
            "settings": {"k": [3], "held_out": 0.25, **settings},
        }
    )


def extrapolated(job: Job) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = open_store(job.directory / "scores.zarr").read("margin")
    return values


def run(world: World, spec: ExtrapolatedScoreStage, *, write: bool = True) -> tuple[Job, dict[str, Any]]:
    if write:
        world.write()
    job = world.make_job("scores", spec.id)
    return job, spec.run(job)


def regression(world: World, rows: dict[str, Any], neighbours: int = 3, **how: str) -> KNeighborsRegressor:
    """The regression from these rows of the pools."""
    features, scores = (
        np.concatenate([values[pool][chosen] for pool, chosen in rows.items()])
        for values in (world.features, world.scores)
    )
    return KNeighborsRegressor(neighbours, algorithm="brute", **how).fit(features.astype(np.float64), scores)


EVERY = slice(None)


def test_scores_are_the_mean_of_the_nearest_in_all_sources(world: World) -> None:
    job, facts = run(world, spec_of(REAL, SOURCE, metric=["euclidean"]))
    regressor = regression(world, {REAL: EVERY, SOURCE: EVERY})
    targets = world.features[TARGET].astype(np.float64)
    np.testing.assert_allclose(extrapolated(job), regressor.predict(targets), rtol=1e-5, atol=1e-6)
    nearest = open_store(job.directory / "scores.zarr").read("nearest")
    np.testing.assert_allclose(nearest, regressor.kneighbors(targets, 1)[0][:, 0], rtol=1e-3)
    assert facts["sources"] == {REAL: {"used": 120, "censored": 0}, SOURCE: {"used": 80, "censored": 0}}
    assert (facts["shared_images"], facts["images"]) == (0, 50)


def test_the_store_reads_as_the_scores_it_was_made_from(world: World) -> None:
    job, facts = run(world, spec_of(REAL))
    pool = open_pool(job.upstream("pools", TARGET))
    values, meaning = read_score(job.directory, pool_digest=pool.info.digest)
    assert (len(values), meaning.column, meaning.unit, meaning.easy) == (50, "margin", "metres", "high")
    assert meaning.sign == "large is easy; extrapolated from the nearest images that are scored"
    attributes = open_store(job.directory / "scores.zarr").attributes
    assert attributes["extrapolation"]["held_out"] == facts["held_out"]
    assert {path.name for path in job.outputs} == {"grid.csv", "scores.zarr", "scores.png"}


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_one_neighbour_of_a_pool_in_itself_is_its_own_score(metric: str, world: World) -> None:
    job, facts = run(world, spec_of(REAL, target=REAL, k=[1], metric=[metric], allow_overlap=True))
    assert np.array_equal(extrapolated(job), world.scores[REAL])
    assert facts["shared_images"] == 120
    assert facts["held_out"]["mae"] > 0.05  # held-out images do not find themselves


def test_images_in_both_pools_are_refused_by_number_and_first_ids(world: World) -> None:
    world.images[TARGET][[4, 7]] = world.images[SOURCE][[60, 2]]
    with pytest.raises(UserError, match=r"2 of the 50 images of some-target.* in some-source.*: 4 \(there 60\), 7 \("):
        run(world, spec_of(REAL, SOURCE))


@pytest.mark.parametrize("pool", [REAL, SOURCE])
def test_overlap_that_is_allowed_is_counted_once_an_image(pool: str, world: World) -> None:
    world.images[TARGET][[4, 7]] = world.images[pool][[60, 2]]
    if pool == REAL:
        world.images[SOURCE][9] = world.images[REAL][60]
    _, facts = run(world, spec_of(REAL, SOURCE, allow_overlap=True))
    assert facts["shared_images"] == 2


def test_infinite_scores_are_left_out_and_counted(world: World) -> None:
    world.scores[REAL][::5] = np.inf
    job, facts = run(world, spec_of(REAL, metric=["euclidean"]))
    expected = regression(world, {REAL: np.isfinite(world.scores[REAL])}).predict(world.features[TARGET])
    np.testing.assert_allclose(extrapolated(job), expected, rtol=1e-5, atol=1e-6)
    assert facts["sources"] == {REAL: {"used": 96, "censored": 24}}
    assert facts["held_out"]["images"] == 12  # half of them choose


def test_validation_images_of_the_scoring_model_are_nobodys_neighbours(world: World) -> None:
    spec = spec_of(REAL, SOURCE, metric=["euclidean"])
    real = spec.sources[0].model_copy(update={"validation_images": 30})
    job, facts = run(world, spec.model_copy(update={"sources": (real, spec.sources[1])}))
    expected = regression(world, {REAL: slice(30, None), SOURCE: EVERY}).predict(world.features[TARGET])
    np.testing.assert_allclose(extrapolated(job), expected, rtol=1e-5, atol=1e-6)
    assert facts["sources"] == {REAL: {"used": 90, "censored": 0}, SOURCE: {"used": 80, "censored": 0}}


GRID: dict[str, Any] = {
    "k": [1, 4],
    "metric": ["cosine", "euclidean"],
    "weighting": ["mean", "distance"],
    "sources": ["all", "real", "synthetic"],
}


def test_the_grid_is_every_combination_and_the_best_is_used(world: World) -> None:
    job, facts = run(world, spec_of(REAL, SOURCE, **GRID))
    grid = pd.read_csv(job.directory / "grid.csv")
    assert len(grid) == len(grid.drop_duplicates(["sources", "metric", "k", "weighting"])) == 24
    best = grid.iloc[int(grid["choosing_mae"].argmin())]
    assert facts["settings"] == {name: best[name] for name in ("sources", "metric", "k", "weighting")}
    assert facts["held_out"]["mae"] == best["mae"] < best["constant_mae"]
    assert (grid["images"] == 10).all()
    best_alone: dict[str, Any] = {name: [value] for name, value in facts["settings"].items()}
    alone, _ = run(world, spec_of(REAL, SOURCE, **best_alone), write=False)
    assert np.array_equal(extrapolated(alone), extrapolated(job))


def test_the_error_is_that_of_a_regression_without_the_held_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[npt.NDArray[np.int64]] = []

    def spy(*arguments: Any) -> Any:
        rows, rest = hold_out(*arguments)
        held.append(rows)
        return rows, rest

    monkeypatch.setattr("robustprune.scores.extrapolation.hold_out", spy)
    job, _ = run(world, spec_of(REAL, SOURCE, **GRID))
    (rows,) = held
    rest = np.setdiff1d(np.arange(80), rows)
    known: dict[str, dict[str, Any]] = {"real": {REAL: EVERY}, "synthetic": {SOURCE: rest}}
    known["all"] = known["real"] | known["synthetic"]
    targets, true = world.features[SOURCE][rows].astype(float), world.scores[SOURCE][rows]
    for line in pd.read_csv(job.directory / "grid.csv").to_dict("records"):
        weights = "uniform" if line["weighting"] == "mean" else "distance"
        regressor = regression(world, known[line["sources"]], line["k"], weights=weights, metric=line["metric"])
        errors = np.abs(regressor.predict(targets) - true)
        assert line["choosing_mae"] == pytest.approx(errors[::2].mean(), rel=1e-4)
        assert line["mae"] == pytest.approx(errors[1::2].mean(), rel=1e-4)  # of images that did not choose
        constant = np.abs(world.scores[SOURCE][rest].mean() - true[1::2]).mean()
        assert line["constant_mae"] == pytest.approx(constant, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": [1, 500]}, "k = 500, but sources = all leaves 180 images"),
        ({"held_out": 0.05}, "held_out = 0.05 leaves 4 of the 80 .* at least 10"),
    ],
    ids=["k", "held_out"],
)
def test_settings_that_leave_too_few_images_are_refused(settings: dict[str, Any], message: str, world: World) -> None:
    with pytest.raises(UserError, match=message):
        run(world, spec_of(REAL, SOURCE, **settings))


def test_sources_that_do_not_fit_together_are_refused(world: World) -> None:
    world.meanings[SOURCE] = {**MEANING, "unit": "feet"}
    with pytest.raises(UserError, match=r"some-source.*feet.* some-real.*metres"):
        run(world, spec_of(REAL, SOURCE))


def test_embeddings_of_different_lengths_are_refused(world: World) -> None:
    world.features[TARGET] = world.features[TARGET][:, :2].copy()
    with pytest.raises(UserError, match=r"some-real.* 3 numbers an image, but those .* 2"):
        run(world, spec_of(REAL))


def test_a_source_without_finite_scores_is_refused(world: World) -> None:
    world.scores[REAL][:] = np.inf
    with pytest.raises(UserError, match="some-real-0123456789 has no image with a finite score"):
        run(world, spec_of(REAL, SOURCE))


def test_an_image_that_is_in_the_source_twice_is_not_held_out(world: World) -> None:
    world.images[REAL][:] = world.images[REAL][0]
    with pytest.raises(UserError, match="leaves 0 of the 120 scored images of some-real"):
        run(world, spec_of(REAL))


def assert_same_files(whole: Job, other: Job) -> None:
    files = [path.relative_to(whole.directory) for path in whole.directory.glob("[!p]*/**/*") if path.is_file()]
    assert len(files) >= 5
    for name in [Path("grid.csv"), Path("scores.png"), *files]:
        assert (whole.directory / name).read_bytes() == (other.directory / name).read_bytes()


def test_resumed_twice_it_ends_in_the_same_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustprune.scores.extrapolated.EXTRAPOLATED_TOGETHER", 8)
    spec = spec_of(REAL, SOURCE, **GRID)
    whole, _ = run(world, spec)
    broken = world.make_job("scores", "broken")
    for _ in range(3):
        broken.checkpoints = StopAfterTwo(0)
        with pytest.raises(Interrupted):
            spec.run(broken)
    broken.checkpoints = Checkpoints(0)
    spec.run(broken)
    assert_same_files(whole, broken)


def test_parts_end_in_the_bytes_of_one_job(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustprune.scores.extrapolated.EXTRAPOLATED_TOGETHER", 8)
    spec = spec_of(REAL, SOURCE, **GRID)
    whole, facts = run(world, spec)
    shared = world.make_job("scores", "shared")
    for rows in (range(24, 50), range(24)):
        spec.row_pass(shared)(rows=rows)
    computed = [path.name for path in (shared.partial / "blocks").iterdir()]
    assert spec.run(shared) == facts
    assert len(computed) == len(list((shared.partial / "blocks").iterdir())) >= 2
    assert_same_files(whole, shared)


S = TypeVar("S", bound=Stage)


ROW = {"method": "PUMA", "strategy": "puma", "radius": "margin", "extrapolated": True}
SMALL = {
    "synthetic": {"count": 100, "generator": {"steps": 20}},
    "extrapolation": {"source": "generate", "source_images": 120, "neighbours": {"held_out": 0.3}},
}


def plan_of(results: Path, overrides: dict[str, Any], row: dict[str, Any] = ROW) -> Plan:
    table = Table.model_validate({"title": "t", "target": "t.csv", "rows": [row]})
    plan = make_plan(load_config(merge(TINY, overrides)), {"mine.t": table}, results=results)
    plan.write_specs()
    return plan


def stages_of(plan: Plan, kind: type[S]) -> list[S]:
    return [spec for spec in plan.stages.values() if isinstance(spec, kind)]


def test_a_row_that_says_so_gets_extrapolated_scores_for_generated_images(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, SMALL)
    (manifest,) = stages_of(plan, ManifestStage)
    real, target = (plan.stages[score] for score in manifest.scores)
    assert manifest.scores == manifest.margins
    assert isinstance(real, MarginStage)
    assert isinstance(target, ExtrapolatedScoreStage)
    assert (real.pool, target.pool) == manifest.pools
    drawn = [plan.stages[source.pool] for source in target.sources]
    assert drawn[0].id == real.pool
    assert isinstance(drawn[1], GeneratedPoolStage)
    synthetic = plan.stages[target.pool]
    assert isinstance(synthetic, GeneratedPoolStage)
    assert (drawn[1].count, drawn[1].generator) == (120, synthetic.generator)
    assert drawn[1].sampler.seed != synthetic.sampler.seed
    assert sorted(spec.pool for spec in stages_of(plan, MarginStage)) == sorted(spec.id for spec in drawn)
    embeddings = stages_of(plan, EmbeddingStage)
    assert {spec.pool for spec in embeddings} == {*manifest.pools, drawn[1].id}
    assert {spec.encoder for spec in embeddings} == {ModelEncoder(model=real.model)}


def test_without_a_source_the_real_pool_is_the_only_one(tmp_path: Path) -> None:
    (extrapolation,) = stages_of(plan_of(tmp_path, {"extrapolation": {"source": "none"}}), ExtrapolatedScoreStage)
    assert len(extrapolation.sources) == 1


def test_without_generated_images_nothing_is_extrapolated(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"training": {"trades": {"synthetic_fraction": 0}}})
    assert not stages_of(plan, ExtrapolatedScoreStage)
    assert not stages_of(plan, EmbeddingStage)


def test_a_pruning_score_and_radii_are_extrapolated_apart(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {}, {**ROW, "score": "loss"})
    (manifest,) = stages_of(plan, ManifestStage)
    extrapolated = [plan.stages[stages[1]] for stages in (manifest.scores, manifest.margins)]
    sources = [spec.sources[0].score for spec in extrapolated if isinstance(spec, ExtrapolatedScoreStage)]
    assert sources == [manifest.scores[0], manifest.margins[0]]
    assert [plan.stages[score].slug for score in sources] == ["loss-digits-train", "margin-linf-digits-train"]


def test_each_source_is_scored_by_a_training_on_it_alone(tmp_path: Path) -> None:
    """Nieth et al., section 3: a classifier on the source for its DU, a separate run on the real images."""
    overrides = {**SMALL, "training": {"trades": {"epochs": 12, "synthetic_fraction": 0.5}}}
    plan = plan_of(tmp_path, overrides, {**ROW, "score": "uncertainty_adversarial", "radius": "constant"})
    (manifest,) = [spec for spec in plan.stages.values() if isinstance(spec, ManifestStage)]
    (extrapolated,) = [spec for spec in plan.stages.values() if isinstance(spec, ExtrapolatedScoreStage)]
    assert manifest.scores == (extrapolated.sources[0].score, extrapolated.id)
    recorded = []
    for source in extrapolated.sources:
        direct = plan.stages[source.score]
        assert isinstance(direct, DynamicsScoreStage)
        for model in direct.models:
            trained = plan.stages[model]
            assert isinstance(trained, ModelStage)
            assert (trained.pools, trained.training.synthetic_in_batch) == ((source.pool,), 0)
            assert source.validation_images == trained.training.held_out_images
            recorded.append(model)
    assert len(set(recorded)) == len(extrapolated.sources) == 2
    embeddings = [spec.encoder for spec in plan.stages.values() if isinstance(spec, EmbeddingStage)]
    assert embeddings == [ModelEncoder(model=recorded[0])] * 3


UNCERTAINTY = {**ROW, "score": "uncertainty_adversarial", "radius": "constant"}


def test_without_a_source_training_dynamics_are_recorded_of_the_real_images_alone(tmp_path: Path) -> None:
    overrides = {"extrapolation": {"source": "none"}, "training": {"trades": {"epochs": 12}}}
    plan = plan_of(tmp_path, overrides, UNCERTAINTY)
    (extrapolated,) = stages_of(plan, ExtrapolatedScoreStage)
    direct = plan.stages[extrapolated.sources[0].score]
    assert isinstance(direct, DynamicsScoreStage)
    (recorded,) = (plan.stages[model] for model in direct.models)
    assert isinstance(recorded, ModelStage)
    assert (recorded.pools, recorded.training.synthetic_in_batch) == ((extrapolated.sources[0].pool,), 0)


def test_held_out_images_of_other_scores_are_scored_and_so_neighbours(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, SMALL)
    (extrapolated,) = stages_of(plan, ExtrapolatedScoreStage)
    assert [source.validation_images for source in extrapolated.sources] == [0, 0]
    assert "validation_images" not in json.dumps(extrapolated.model_dump(mode="json"))


def test_the_embedding_is_of_the_weights_that_scored(tmp_path: Path) -> None:
    (last,), (best,) = (
        {spec.encoder for spec in stages_of(plan_of(tmp_path, {**SMALL, "weights": weights}), EmbeddingStage)}
        for weights in ("last", "best")
    )
    assert isinstance(last, ModelEncoder)
    assert best == ModelEncoder(model=last.model, weights="best")
    assert "weights" not in last.model_dump()


@pytest.mark.slow
def test_from_the_generator_to_the_manifest(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, SMALL)
    (manifest,) = stages_of(plan, ManifestStage)
    for stage_id in plan.needed_for([manifest.id]):
        run_stage(plan.directory(stage_id) / "spec.json", Execution(device="cpu"))
    pools = {pool: open_pool(plan.directory(pool)) for pool in manifest.pools}
    kept = read_manifest(plan.directory(manifest.id), pools)
    assert sum(len(rows) for rows, _ in kept.values()) == round(0.8 * (1297 - manifest.validation_images + 100))
    record = read_record(plan.directory(manifest.scores[1]))
    assert list(record.digests) == ["grid.csv", "scores.zarr", "scores.png"]
    assert record.facts["settings"]["k"] in (5, 13, 35)
    embedding = stages_of(plan, EmbeddingStage)[0]
    array = open_embeddings(plan.directory(embedding.id), open_pool(plan.directory(embedding.pool)))
    assert array.shape[1] == 64
    assert (array >= 0).all()  # behind a ReLU
    spec = json.loads((plan.directory(manifest.scores[1]) / "spec.json").read_text())
    assert spec["spec"]["score"] == "extrapolated"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"neighbours": {"k": [5, 5]}}, r"extrapolation.neighbours.k = .* once"),
        ({"neighbours": {"k": [0]}}, r"extrapolation.neighbours.k.0 = 0"),
        ({"neighbours": {"metric": ["l2"]}}, r"extrapolation.neighbours.metric.0 = 'l2'"),
        ({"source": "none", "neighbours": {"sources": ["synthetic"]}}, "sources = synthetic needs generated images"),
        ({"embedding": {"source": "dinov2"}}, r"extrapolation.embedding.source = 'dinov2'"),
        ({"neighbors": {}}, "did you mean 'neighbours'"),
    ],
    ids=str,
)
def test_a_bad_setting_is_named(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config({"extrapolation": section})


def test_without_a_generator_nothing_can_be_drawn(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", image=0)
    overrides = {"synthetic": {"source": f"npz:{tmp_path}/some.npz"}, "extrapolation": {"source": "generate"}}
    with pytest.raises(UserError, match=r"extrapolation.source = generate, but synthetic.source = npz:.*some.npz"):
        plan_of(tmp_path, overrides)
    with pytest.raises(UserError, match=r"images of digits-synthetic-.*, to which scores are extrapolated, are in"):
        plan_of(tmp_path, {**overrides, "extrapolation": {"source": f"npz:{tmp_path}/some.npz"}})


def test_the_examples_of_the_page_on_scores_are_valid(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "scores.md").read_text().partition("## Extrapolated scores")[2]
    (row,), section = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[:2])
    plan = plan_of(tmp_path, section, row)
    assert stages_of(plan, ExtrapolatedScoreStage)
