"""Random parts of pools and several pools together: drawn as described, disjoint where they should be, never copied."""

import json
import shutil
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustprune.cli.main import main
from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.job import Job, run_stage
from robustprune.core.yaml_files import merge
from robustprune.evaluation.outcome import balanced_subset
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.images.drawing import draw_rows, row_keys
from robustprune.images.images_by_row import ChosenImages, JoinedImages
from robustprune.images.pool import image_digests, open_pool, read_digests
from robustprune.images.subpools import UnionPart, UnionPoolStage
from robustprune.images.subset import SubsetPoolStage
from robustprune.images.writing import write_pool
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.training.recipes.standard import StandardRecipe
from robustprune.training.sampler import EpochSampler, stratum_sizes
from robustprune.training.schedules import Clock
from robustprune.training.trainset import KeptImages, Stratum
from tiny import TINY, stage_of

Make = Callable[..., Job]
SHAPE = (1, 2, 3)
QUARTER = Fraction(1, 4)


def some_images(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def pool_of(make_job: Make, name: str, images: npt.NDArray[np.uint8], labels: npt.NDArray[Any]) -> str:
    stage_id = f"{name}-0123456789"
    write_pool(make_job("pools", stage_id), images, labels, dataset="some", source="a test", classes=4)
    return stage_id


def subset_spec(pool: str, count: int, **changed: Any) -> SubsetPoolStage:
    values = {"balanced": True, "apart_from": (), "seed": 0, **changed}
    return SubsetPoolStage(dataset="some", pool=pool, classes=4, image_shape=SHAPE, count=count, **values)


def union_spec(*pools: str, shares: Sequence[Fraction | None] | None = None) -> UnionPoolStage:
    parts = zip(pools, shares or [None] * len(pools), strict=True)
    members = tuple(UnionPart(pool=pool, share=share) for pool, share in parts)
    return UnionPoolStage(dataset="some", classes=4, image_shape=SHAPE, parts=members)


def made(make_job: Make, spec: SubsetPoolStage | UnionPoolStage) -> tuple[Path, dict[str, Any]]:
    job = make_job("pools", spec.id)
    facts = spec.run(job)
    return job.directory, facts


def rows_of(directory: Path) -> npt.NDArray[np.int64]:
    rows: npt.NDArray[np.int64] = np.load(directory / "rows.npy")
    return rows


def labels_of(count: int) -> npt.NDArray[np.int64]:
    return np.arange(count) % 4


# ---- which rows are drawn


@settings(max_examples=50)
@given(st.data())
def test_a_draw_is_the_lowest_keys(data: st.DataObject) -> None:
    """Against the plain description: of each class, or of all, the rows with the lowest keys."""
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=12, max_size=60)))
    excluded = np.array(data.draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels))))
    balanced, seed = data.draw(st.booleans()), data.draw(st.integers(0, 9))
    count = data.draw(st.integers(1, 12))
    keys = row_keys(len(labels), seed).tolist()
    expected: list[int] = []
    for label in range(3) if balanced else [None]:
        share = count if label is None else count // 3 + (label < count % 3)
        among = [row for row in range(len(labels)) if not excluded[row] and label in (None, labels[row])]
        if len(among) < share:
            with pytest.raises(UserError, match=f"has {len(among)} images to draw from, but {share} are wanted"):
                draw_rows(labels, count, classes=3, balanced=balanced, seed=seed, excluded=excluded)
            return
        expected += sorted(among, key=keys.__getitem__)[:share]
    rows = draw_rows(labels, count, classes=3, balanced=balanced, seed=seed, excluded=excluded)
    assert rows.tolist() == sorted(expected)


def test_a_key_depends_on_seed_and_row_alone() -> None:
    assert row_keys(1000, 3)[:10].tolist() == row_keys(10, 3).tolist()
    assert not np.isin(row_keys(1000, 3), row_keys(1000, 4)).any()
    assert len(np.unique(row_keys(100_000, 0))) == 100_000


def test_keys_are_uniform() -> None:
    """The share of 200,000 keys below a quarter, within 5 standard deviations; and of each bit."""
    keys = row_keys(200_000, 1)
    assert abs((keys < 2**62).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / len(keys))
    bits = np.unpackbits(keys.view(np.uint8).reshape(-1, 8), axis=1).mean(axis=0)
    assert np.abs(bits - 0.5).max() < 5 * np.sqrt(0.25 / len(keys))


def test_a_smaller_draw_is_part_of_a_larger_one_and_balanced() -> None:
    small, large = (draw_rows(labels_of(400), n, classes=4, balanced=True, seed=5) for n in (42, 200))
    assert set(small) < set(large)
    assert np.bincount(small % 4).tolist() == [11, 11, 10, 10]


# ---- views


@pytest.mark.parametrize("index", [0, -1, 6, np.int64(3), slice(2, 6), slice(None), slice(5, 1, -2), [], [6, 0, 6, -7]])
def test_views_are_as_arrays(index: Any) -> None:
    parts = [some_images(count, seed) for seed, count in enumerate((3, 1, 3))]
    joined, array = JoinedImages(parts), np.concatenate(parts)
    index = np.array(index, dtype=np.int64) if isinstance(index, list) else index
    assert np.array_equal(joined[index], array[index])
    rows = np.array([6, 2, 2, 0, 1, 4, 3])
    assert np.array_equal(ChosenImages(joined, rows)[index], array[rows][index])
    assert (len(joined), joined.shape, joined.dtype) == (7, array.shape, array.dtype)


@pytest.mark.parametrize("index", [7, -8, np.array([0, 7]), np.array([0.5]), np.zeros(7, bool)])
def test_views_refuse_rows_they_have_not(index: Any) -> None:
    joined = JoinedImages([some_images(4), some_images(3)])
    for images in (joined, ChosenImages(joined, np.arange(7))):
        with pytest.raises(IndexError):
            images[index]


# ---- the stages


def test_a_subset_has_its_rows_and_copies_no_image(make_job: Make) -> None:
    images, labels = some_images(100), labels_of(100)
    parent = pool_of(make_job, "parent", images, labels)
    directory, facts = made(make_job, subset_spec(parent, 20))
    rows, pool = rows_of(directory), open_pool(directory)
    assert np.sort(rows).tolist() == draw_rows(labels, 20, classes=4, balanced=True, seed=0).tolist()
    smaller, larger = (rows_of(made(make_job, subset_spec(parent, n, balanced=False))[0]) for n in (12, 30))
    assert smaller.tolist() == larger[:12].tolist()
    assert np.array_equal(pool.images[:], images[rows])
    assert np.array_equal(pool.labels, labels[rows])
    assert np.array_equal(read_digests(directory), image_digests(images[rows]))
    assert facts["class_counts"] == [5] * 4
    assert (facts["digest"], facts["not_drawn_from"]) == (pool.info.digest, {})
    assert not (directory / "images.npy").exists()


def test_draws_are_disjoint_by_row_and_by_image(make_job: Make) -> None:
    """As Nieth et al. need S, D and D_test; image 7 is in the parent once more, as 93, and never in two of them."""
    images, labels = some_images(120), labels_of(120)
    images[93], labels[93] = images[7], labels[7]
    parent = pool_of(make_job, "parent", images, labels)
    drawn: dict[str, Path] = {}
    for count, seed in ((60, 0), (20, 0), (20, 1)):
        spec = subset_spec(parent, count, apart_from=tuple(drawn), seed=seed)
        directory, facts = made(make_job, spec)
        assert facts["not_drawn_from"].keys() == set(drawn)
        drawn[spec.id] = directory
    assert len(np.unique(np.concatenate([rows_of(directory) for directory in drawn.values()]))) == 100
    pixels = [{image.tobytes() for image in open_pool(directory).images[:]} for directory in drawn.values()]
    assert all(one.isdisjoint(other) for one, other in combinations(pixels, 2))


def test_a_subset_stands_apart_from_another_file(make_job: Make) -> None:
    """The published million is part of the published five millions: the images are known by their pixels."""
    images, labels = some_images(100), labels_of(100)
    million = pool_of(make_job, "million", images[10:40], labels[10:40])
    parent = pool_of(make_job, "millions", images, labels)
    directory, facts = made(make_job, subset_spec(parent, 68, apart_from=(million,)))
    rows = rows_of(directory)
    assert facts["not_drawn_from"] == {million: 30}
    assert not set(range(10, 40)) & set(rows.tolist())
    with pytest.raises(UserError, match=r"class 2 of millions-\w+ has 17 images to draw from, but 18 are wanted"):
        made(make_job, subset_spec(parent, 72, apart_from=(million,)))


def test_a_union_has_all_images_and_counts_repeated_ones(make_job: Make) -> None:
    first, second = some_images(10, 1), some_images(6, 2)
    second[3] = first[4]
    pools = [pool_of(make_job, f"p{len(images)}", images, labels_of(len(images))) for images in (first, second)]
    directory, facts = made(make_job, union_spec(*pools, shares=(1 - QUARTER, QUARTER)))
    pool = open_pool(directory)
    assert np.array_equal(pool.images[:], np.concatenate([first, second]))
    assert np.array_equal(pool.labels, np.concatenate([labels_of(10), labels_of(6)]))
    assert (facts["count"], facts["repeated"]) == (16, 1)
    assert [(member.count, member.share) for member in pool.info.members] == [(10, 1 - QUARTER), (6, QUARTER)]


def test_a_subset_of_a_union_of_subsets(make_job: Make) -> None:
    images = some_images(80)
    parent = pool_of(make_job, "parent", images, labels_of(80))
    halves = [subset_spec(parent, 40, seed=seed) for seed in (0, 1)]
    rows = np.concatenate([rows_of(made(make_job, half)[0]) for half in halves])
    both = union_spec(*(half.id for half in halves))
    made(make_job, both)
    directory, _ = made(make_job, subset_spec(both.id, 12, balanced=False))
    assert np.array_equal(open_pool(directory).images[:], images[rows[rows_of(directory)]])


def test_digests_of_views_differ(make_job: Make) -> None:
    parent, other = (pool_of(make_job, f"p{seed}", some_images(80, seed), labels_of(80)) for seed in (0, 1))
    specs: list[SubsetPoolStage | UnionPoolStage] = [
        subset_spec(parent, 40),
        subset_spec(parent, 40, seed=1),
        subset_spec(other, 40),
        subset_spec(parent, 41),
        union_spec(parent, other),
        union_spec(other, parent),
    ]
    assert len({made(make_job, spec)[1]["digest"] for spec in specs}) == len(specs)


def test_a_view_without_its_pool_is_refused(make_job: Make) -> None:
    parent = pool_of(make_job, "parent", some_images(40), labels_of(40))
    directory, _ = made(make_job, subset_spec(parent, 20))
    shutil.rmtree(directory.parent / parent)
    with pytest.raises(UserError, match=rf"{parent}, which is not there any more"):
        open_pool(directory)
    pool_of(make_job, "parent", some_images(40, 1), labels_of(40))
    with pytest.raises(UserError, match=r"the digest \w+, but it is another one now \(\w+\)"):
        open_pool(directory)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.arange(20, dtype=np.float32), r"rows\.npy is float32 \(20,\), not .* int64"),
        (np.arange(19), "states uint8"),
    ],
    ids=["floats", "too_few"],
)
def test_damaged_rows_are_refused(rows: npt.NDArray[Any], message: str, make_job: Make) -> None:
    parent = pool_of(make_job, "parent", some_images(40), labels_of(40))
    directory, _ = made(make_job, subset_spec(parent, 20))
    np.save(directory / "rows.npy", rows)
    with pytest.raises(UserError, match=message):
        open_pool(directory)


# ---- what two pools have in common


def test_pools_are_compared_by_row_and_by_pixels(make_job: Make, capsys: pytest.CaptureFixture[str]) -> None:
    images = some_images(80)
    images[70] = images[2]
    parent, other = (pool_of(make_job, f"p{step}", images[::step], labels_of(80)) for step in (1, -1))
    first = subset_spec(parent, 40)
    specs = [first, subset_spec(parent, 20, apart_from=(first.id,)), subset_spec(parent, 60), subset_spec(other, 8)]
    paths = [made(make_job, spec)[0] for spec in specs]
    both = made(make_job, union_spec(specs[1].id, specs[3].id))[0]

    def shown(one: Path, two: Path) -> list[str]:
        assert main(["show", str(one), str(two)]) == 0
        return capsys.readouterr().out.splitlines()[2:]

    by_pixels = "in both, by their pixels: {} images of A"
    assert shown(paths[0], paths[1]) == [
        f"in both, rows of {parent}: 0",
        by_pixels.format(0),
        "they are disjoint",
    ]
    assert f"in both, rows of {parent}: 40" in shown(paths[0], paths[2])
    assert shown(paths[1], both)[0] == f"in both, rows of {parent}: 20"
    assert shown(paths[3], both)[0] == f"in both, rows of {other}: 8"
    pixels = {image.tobytes() for image in images[::-1][rows_of(paths[3])]}
    equal = sum(image.tobytes() in pixels for image in images[rows_of(paths[0])])
    assert equal > 0
    assert shown(paths[0], paths[3])[:3] == [
        "in both, rows: none, as they are no parts of one pool",
        by_pixels.format(equal),
        "they overlap",
    ]


# ---- a batch's shares


def test_a_batch_has_each_member_in_its_share() -> None:
    assert stratum_sizes([Stratum(1000, Fraction(5, 8)), Stratum(9, Fraction(3, 8))], 358) == [224, 134]
    assert stratum_sizes([Stratum(1, Fraction(1, 3))] * 3, 7) == [3, 2, 2]
    assert stratum_sizes([Stratum(5)], 358) == [358]
    shares = [Fraction(tenths, 10) for tenths in (1, 2, 3, 4)]
    for images in range(50):
        sizes = stratum_sizes([Stratum(1, share) for share in shares], images)
        assert sum(sizes) == images
        assert all(abs(size - images * share) < 1 for size, share in zip(sizes, shares, strict=True))


def test_the_sampler_draws_within_each_member() -> None:
    recipe = StandardRecipe(epochs=1, epoch_images=64, batch_size=64, synthetic_fraction=0.5)
    clock = Clock((1,))
    strata = [Stratum(10, QUARTER), Stratum(50, 1 - QUARTER)]
    sampler = EpochSampler(real=100, synthetic=strata, settings=recipe, seed=0)
    drawn = sampler.synthetic_positions(clock.position(0)).numpy()
    assert (drawn < 10).tolist() == [True] * 8 + [False] * 24
    assert drawn.max() < 60
    alone = EpochSampler(real=100, synthetic=[Stratum(60)], settings=recipe, seed=0)
    source = torch.Generator().manual_seed(0)
    assert not torch.equal(alone.synthetic_positions(clock.position(0)), torch.randint(60, (32,), generator=source))
    assert alone.synthetic_positions(clock.position(0)).max() < 60


def test_what_pruning_leaves_of_each_member(make_job: Make) -> None:
    pools = [pool_of(make_job, f"p{n}", some_images(n), labels_of(n)) for n in (10, 6)]
    shared, equal = (
        open_pool(made(make_job, union_spec(*pools, shares=shares))[0]) for shares in ((1 - QUARTER, QUARTER), None)
    )
    for rows, strata in (
        ([0, 3, 9, 10, 15], (Stratum(3, 1 - QUARTER), Stratum(2, QUARTER))),
        ([0, 3, 9], (Stratum(3, 1 - QUARTER), Stratum(0, QUARTER))),
    ):
        kept = np.array(rows), np.ones(len(rows), np.float32)
        assert KeptImages(shared, *kept).strata == strata
        assert KeptImages(equal, *kept).strata == (Stratum(len(rows)),)


@pytest.mark.parametrize("count", [1, 5, 9, 10, 14, 15, 18])
def test_test_images_are_as_many_of_each_class_as_can_be(count: int) -> None:
    labels = np.repeat([0, 1, 2], [10, 3, 6])
    found = np.bincount(labels[balanced_subset(labels, count, classes=3)], minlength=3)
    assert found.sum() == count
    level = found.max()
    assert all(taken == there or taken >= level - 1 for taken, there in zip(found, (10, 3, 6), strict=True))
    larger = set(balanced_subset(labels, count + 1, classes=3).tolist())
    assert larger.issuperset(balanced_subset(labels, count, classes=3).tolist())


# ---- configuration and plan

NIETH: dict[str, Any] = {
    "subsets": {
        "d": {"of": "generate", "count": 200},
        "s": {"of": "generate", "count": 50, "apart_from": ["subset:d"]},
        "test": {"of": "generate", "count": 40, "apart_from": ["subset:d", "subset:s"]},
    },
    "unions": {"mixed": {"of": {"subset:s": "1/4", "subset:test": "3/4"}}},
    "synthetic": {"source": "subset:d"},
    "extrapolation": {"source": "subset:s"},
}


NOT_WITHIN = "of: the shares of union:mixed hold .* not within another set"


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"synthetic": {"source": "subset:e"}},
            "synthetic.source: subset:e is not .*: subset:reference, subset:tested, subset:d",
        ),
        ({"extrapolation": {"source": "union:e"}}, "extrapolation.source: union:e is not one of those configured"),
        ({"subsets": {"d": {"of": "union:e"}}}, "subsets.d: union:e is not one of those configured"),
        ({"subsets": {"d": {"of": "union:mixed"}}}, "made of themselves: .*subset:d"),
        ({"subsets": {"d": {"of": "none"}}}, "subsets.d.of = 'none'"),
        ({"subsets": {"d": {"count": 0}}}, "subsets.d.count = 0"),
        ({"subsets": {"d": {"cuont": 1}}}, r"subsets.d.cuont = 1: .*'count'"),
        ({"unions": {"mixed": {"of": {"generate": 0.5}}}}, "unions.mixed: .* 1/4, 3/4, 1/2"),
        ({"unions": {"one": {"of": {"generate": None}}}}, "unions.one.of: .* at least 2 items"),
        ({"subsets": {"part": {"of": "union:mixed", "count": 10}}}, NOT_WITHIN),
        ({"unions": {"more": {"of": {"union:mixed": None, "generate": None}}}}, NOT_WITHIN),
        ({"selections": {"best": {"of": "union:mixed", "keep": "1/2"}}}, NOT_WITHIN),
    ],
    ids=str,
)
def test_bad_subsets_and_unions_are_refused(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        load_config(merge(merge(TINY, NIETH), changed))


def plan_of(results: Path, *rows: Row) -> Plan:
    table = Table(title="sets", target="sets.csv", rows=rows)
    return make_plan(load_config(merge(TINY, NIETH)), {"sets": table}, results=results)


def test_a_row_learns_from_its_own_generated_images(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        Row(method="all of d"),
        Row(method="mixed", synthetic="union:mixed", strategy="random"),
        Row(method="as configured", synthetic="subset:d"),
    )
    target = json.loads(plan.stages[plan.targets[str(tmp_path / "sets.csv")]].model_dump_json())
    models = [plan.stages[row["runs"][0]["model"]].model_dump() for row in target["rows"]]
    origins = [plan.stages[model["synthetic"]].model_dump()["origin"] for model in models]
    assert origins == ["subset", "union", "subset"]
    assert models[0] == models[2]
    assert plan.resources(models[1]["synthetic"]) == plan.config.resources["ingest"]


def test_a_row_with_images_that_its_recipe_does_not_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"m: synthetic = union:mixed, but training\.standard\.synthetic_fraction"):
        plan_of(tmp_path, Row(method="m", recipe="standard", synthetic="union:mixed"))


def test_a_model_is_trained_on_a_mixture_from_configuration_to_weights(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, Row(method="mixed", synthetic="union:mixed"))
    plan.write_specs()
    model = stage_of(plan, "models")
    stages = plan.needed_for([model])
    for stage in stages:
        run_stage(plan.directory(stage), Execution(device="cpu"))
    facts = [json.loads(plan.record(stage).read_text())["facts"] for stage in stages]
    drawn = [fact["not_drawn_from"] for fact in facts if "not_drawn_from" in fact]
    assert sorted(tuple(counts.values()) for counts in drawn) == [(), (200,), (200, 50)]
    digests = [read_digests(plan.directory(stage)) for stage in stages if "subset" in stage]
    assert len(np.unique(np.concatenate(digests))) == 200 + 50 + 40
    assert (plan.directory(model) / "weights.safetensors").is_file()
