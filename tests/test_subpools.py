"""Random parts of pools and several pools together: drawn as described, disjoint where they should be, never copied."""

import json
import shutil
from collections.abc import Callable, Sequence
from fractions import Fraction
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
from robustprune.planning.plan import make_plan
from robustprune.training.recipes.standard import StandardRecipe
from robustprune.training.sampler import EpochSampler, stratum_sizes
from robustprune.training.schedules import Clock
from robustprune.training.trainset import KeptImages, Stratum
from tiny import TINY

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
    return UnionPoolStage(
        dataset="some", classes=4, image_shape=SHAPE, parts=tuple(UnionPart(pool=p, share=s) for p, s in parts)
    )


def made(make_job: Make, spec: SubsetPoolStage | UnionPoolStage) -> tuple[Path, dict[str, Any]]:
    job = make_job("pools", spec.id)
    facts = spec.run(job)
    return job.directory, facts


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


def test_a_smaller_draw_is_part_of_a_larger_one() -> None:
    labels = np.arange(400) % 4
    small, large = (draw_rows(labels, n, classes=4, balanced=True, seed=5) for n in (40, 200))
    assert set(small) < set(large)
    assert np.bincount(labels[small]).tolist() == [10] * 4


def test_a_balanced_draw_of_an_odd_number() -> None:
    drawn = draw_rows(np.arange(400) % 4, 42, classes=4, balanced=True, seed=5)
    assert np.bincount(drawn % 4).tolist() == [11, 11, 10, 10]


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
    images, labels = some_images(100), np.arange(100) % 4
    parent = pool_of(make_job, "parent", images, labels)
    directory, facts = made(make_job, subset_spec(parent, 20))
    rows = np.load(directory / "rows.npy")
    pool = open_pool(directory)
    assert np.sort(rows).tolist() == draw_rows(labels, 20, classes=4, balanced=True, seed=0).tolist()
    smaller, _ = made(make_job, subset_spec(parent, 12, balanced=False))
    larger, _ = made(make_job, subset_spec(parent, 30, balanced=False))
    assert np.load(smaller / "rows.npy").tolist() == np.load(larger / "rows.npy")[:12].tolist()
    assert np.array_equal(pool.images[:], images[rows])
    assert np.array_equal(pool.labels, labels[rows])
    assert np.array_equal(read_digests(directory), image_digests(images[rows]))
    assert facts["class_counts"] == [5] * 4
    assert (facts["digest"], facts["not_drawn_from"]) == (pool.info.digest, {})
    assert not (directory / "images.npy").exists()


def test_draws_are_disjoint_by_row_and_by_image(make_job: Make) -> None:
    """As Nieth et al. need S, D and D_test; image 7 is in the parent once more, as 93, and never in two of them."""
    images, labels = some_images(120), np.arange(120) % 4
    images[93], labels[93] = images[7], labels[7]
    parent = pool_of(make_job, "parent", images, labels)
    drawn: list[Path] = []
    specs: list[str] = []
    for count, seed in ((60, 0), (20, 0), (20, 1)):
        spec = subset_spec(parent, count, apart_from=tuple(specs), seed=seed)
        directory, facts = made(make_job, spec)
        assert facts["not_drawn_from"].keys() == set(specs)
        drawn.append(directory)
        specs.append(spec.id)
    rows = np.concatenate([np.load(directory / "rows.npy") for directory in drawn])
    assert len(np.unique(rows)) == 100
    for place, one in enumerate(drawn):
        for other in drawn[:place]:
            pixels = {image.tobytes() for image in open_pool(one).images[:]}
            assert pixels.isdisjoint(image.tobytes() for image in open_pool(other).images[:])


def test_a_subset_stands_apart_from_another_file(make_job: Make) -> None:
    """The published million is part of the published five millions: the images are known by their pixels."""
    images, labels = some_images(100), np.arange(100) % 4
    million = pool_of(make_job, "million", images[10:40], labels[10:40])
    parent = pool_of(make_job, "millions", images, labels)
    directory, facts = made(make_job, subset_spec(parent, 68, apart_from=(million,)))
    rows = np.load(directory / "rows.npy")
    assert facts["not_drawn_from"] == {million: 30}
    assert not set(range(10, 40)) & set(rows.tolist())
    with pytest.raises(UserError, match=r"class 2 of millions-\w+ has 17 images to draw from, but 18 are wanted"):
        made(make_job, subset_spec(parent, 72, apart_from=(million,)))


def test_a_union_has_all_images_and_counts_repeated_ones(make_job: Make) -> None:
    first, second = some_images(10, 1), some_images(6, 2)
    second[3] = first[4]
    pools = [pool_of(make_job, name, i, np.arange(len(i)) % 4) for name, i in (("one", first), ("two", second))]
    directory, facts = made(make_job, union_spec(*pools, shares=(1 - QUARTER, QUARTER)))
    pool = open_pool(directory)
    assert np.array_equal(pool.images[:], np.concatenate([first, second]))
    assert np.array_equal(pool.labels, [*np.arange(10) % 4, *np.arange(6) % 4])
    assert (facts["count"], facts["repeated"]) == (16, 1)
    assert [(member.count, member.share) for member in pool.info.members] == [(10, 1 - QUARTER), (6, QUARTER)]


def test_a_subset_of_a_union_of_subsets(make_job: Make) -> None:
    images, labels = some_images(80), np.arange(80) % 4
    parent = pool_of(make_job, "parent", images, labels)
    halves = [subset_spec(parent, 40, seed=seed) for seed in (0, 1)]
    rows = [np.load(made(make_job, half)[0] / "rows.npy") for half in halves]
    both = union_spec(*(half.id for half in halves))
    made(make_job, both)
    directory, _ = made(make_job, subset_spec(both.id, 12, balanced=False))
    expected = images[np.concatenate(rows)[np.load(directory / "rows.npy")]]
    assert np.array_equal(open_pool(directory).images[:], expected)


def test_digests_tell_views_apart(make_job: Make) -> None:
    images, labels = some_images(80), np.arange(80) % 4
    parent = pool_of(make_job, "parent", images, labels)
    other = pool_of(make_job, "other", some_images(80, 1), labels)
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
    parent = pool_of(make_job, "parent", some_images(40), np.arange(40) % 4)
    directory, _ = made(make_job, subset_spec(parent, 20))
    shutil.rmtree(directory.parent / parent)
    with pytest.raises(UserError, match=rf"has images of the pool {parent}, which is not there any more; make it"):
        open_pool(directory)
    pool_of(lambda *_, **__: _again(make_job, parent), "parent", some_images(40, 1), np.arange(40) % 4)
    with pytest.raises(UserError, match=r"as it was with the digest \w+, but it is another one now \(\w+\); delete"):
        open_pool(directory)


def _again(make_job: Make, stage_id: str) -> Job:
    return make_job("pools", stage_id)


def test_damaged_rows_are_refused(make_job: Make) -> None:
    parent = pool_of(make_job, "parent", some_images(40), np.arange(40) % 4)
    directory, _ = made(make_job, subset_spec(parent, 20))
    np.save(directory / "rows.npy", np.arange(20, dtype=np.float32))
    with pytest.raises(UserError, match=r"rows\.npy is float32 \(20,\), not a list of int64"):
        open_pool(directory)
    np.save(directory / "rows.npy", np.arange(19))
    with pytest.raises(UserError, match="states uint8"):
        open_pool(directory)


# ---- what two pools have in common


def test_pools_are_compared_by_row_and_by_pixels(make_job: Make, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = some_images(80), np.arange(80) % 4
    images[70] = images[2]
    parent, other = (pool_of(make_job, name, i, labels) for name, i in (("parent", images), ("other", images[::-1])))
    first = subset_spec(parent, 40)
    specs = [first, subset_spec(parent, 20, apart_from=(first.id,)), subset_spec(parent, 60), subset_spec(other, 8)]
    paths = [made(make_job, spec)[0] for spec in specs]
    rows = [np.load(path / "rows.npy") for path in paths]
    both = made(make_job, union_spec(specs[1].id, specs[3].id))[0]

    def said(one: Path, two: Path) -> list[str]:
        assert main(["show", str(one), str(two)]) == 0
        return capsys.readouterr().out.splitlines()[2:]

    in_both = "in both, by their pixels"
    assert said(paths[0], paths[1]) == [
        f"in both, rows of {parent}: 0",
        f"{in_both}: 0 images of A",
        "they are disjoint",
    ]
    assert f"in both, rows of {parent}: 40" in said(paths[0], paths[2])
    assert said(paths[1], both)[:1] == [f"in both, rows of {parent}: 20"]
    assert said(paths[3], both)[:1] == [f"in both, rows of {other}: 8"]
    apart = said(paths[0], paths[3])
    pixels = {image.tobytes() for image in images[::-1][rows[3]]}
    equal = sum(image.tobytes() in pixels for image in images[rows[0]])
    assert apart[:2] == ["in both, rows: none, as they are no parts of one pool", f"{in_both}: {equal} images of A"]
    assert equal > 0
    assert apart[2] == "they overlap"


# ---- a batch's shares


def test_a_batch_has_each_member_in_its_share() -> None:
    """358 of 512 images are generated (0.7); 5/8 and 3/8 of them are 223.75 and 134.25."""
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
    sampler = EpochSampler(
        real=100, synthetic=[Stratum(10, QUARTER), Stratum(50, 1 - QUARTER)], settings=recipe, seed=0
    )
    drawn = sampler.synthetic_positions(clock.position(0)).numpy()
    assert (drawn < 10).tolist() == [True] * 8 + [False] * 24
    assert drawn.max() < 60
    alone = EpochSampler(real=100, synthetic=[Stratum(60)], settings=recipe, seed=0)
    source = torch.Generator().manual_seed(0)
    assert not torch.equal(alone.synthetic_positions(clock.position(0)), torch.randint(60, (32,), generator=source))
    assert alone.synthetic_positions(clock.position(0)).max() < 60


def test_what_pruning_leaves_of_each_member(make_job: Make) -> None:
    pools = [pool_of(make_job, name, some_images(n), np.arange(n) % 4) for name, n in (("one", 10), ("two", 6))]
    directory, _ = made(make_job, union_spec(*pools, shares=(1 - QUARTER, QUARTER)))
    pool = open_pool(directory)
    rows = np.array([0, 3, 9, 10, 15])
    assert KeptImages(pool, rows, np.ones(5, np.float32)).strata == (Stratum(3, 1 - QUARTER), Stratum(2, QUARTER))
    assert KeptImages(pool, rows[:3], np.ones(3, np.float32)).strata == (Stratum(3, 1 - QUARTER), Stratum(0, QUARTER))
    alike, _ = made(make_job, union_spec(*pools))
    assert KeptImages(open_pool(alike), rows, np.ones(5, np.float32)).strata == (Stratum(5),)


@pytest.mark.parametrize("count", [1, 5, 9, 10, 14, 15, 18])
def test_test_images_are_as_many_of_each_class_as_can_be(count: int) -> None:
    labels = np.repeat([0, 1, 2], [10, 3, 6])
    found = np.bincount(labels[balanced_subset(labels, count, classes=3)], minlength=3)
    assert found.sum() == count
    level = found.max()
    for own, there in zip(found, (10, 3, 6), strict=True):
        assert own == there or own >= level - 1
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


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"synthetic": {"source": "subset:e"}},
            "synthetic.source: subset:e is not one of those configured: subset:reference, subset:tested, subset:d",
        ),
        ({"extrapolation": {"source": "union:e"}}, "extrapolation.source: union:e is not one of those configured"),
        ({"subsets": {"d": {"of": "union:e"}}}, "subsets.d: union:e is not one of those configured"),
        ({"subsets": {"d": {"of": "union:mixed"}}}, "these are made of themselves: .*subset:d"),
        ({"subsets": {"d": {"of": "none"}}}, "subsets.d.of = 'none'"),
        ({"subsets": {"d": {"count": 0}}}, "subsets.d.count = 0: Input should be greater than 0"),
        ({"subsets": {"d": {"cuont": 1}}}, r"subsets.d.cuont = 1: there is no such key \(did you mean 'count'\?\)"),
        (
            {"unions": {"mixed": {"of": {"generate": 0.5}}}},
            "unions.mixed: .* null, or above 0 and 1 in all, but are 1/4, 3/4, 1/2",
        ),
        ({"unions": {"one": {"of": {"generate": None}}}}, "unions.one.of: .* at least 2 items"),
        *(
            (changed, "of: the shares of union:mixed hold where a training draws from it, and not within another set")
            for changed in (
                {"subsets": {"part": {"of": "union:mixed", "count": 10}}},
                {"unions": {"more": {"of": {"union:mixed": None, "generate": None}}}},
                {"selections": {"best": {"of": "union:mixed", "keep": "1/2"}}},
            )
        ),
    ],
)
def test_subsets_and_unions_that_cannot_be_are_refused(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        load_config(merge(merge(TINY, NIETH), changed))


def test_a_row_learns_from_its_own_generated_images(tmp_path: Path) -> None:
    rows = (
        Row(method="all of d"),
        Row(method="mixed", synthetic="union:mixed", strategy="random"),
        Row(method="as configured", synthetic="subset:d"),
    )
    table = Table(title="sets", target="sets.csv", rows=rows)
    plan = make_plan(load_config(merge(TINY, NIETH)), {"sets": table}, results=tmp_path)
    target = json.loads(plan.stages[plan.targets[str(tmp_path / "sets.csv")]].model_dump_json())
    models = [plan.stages[row["runs"][0]["model"]].model_dump() for row in target["rows"]]
    origins = [plan.stages[model["synthetic"]].model_dump()["origin"] for model in models]
    assert origins == ["subset", "union", "subset"]
    assert models[0] == models[2]
    assert plan.resources(models[1]["synthetic"]) == plan.config.resources["ingest"]


def test_a_row_with_images_that_its_recipe_does_not_look_at_is_refused(tmp_path: Path) -> None:
    table = Table(title="t", target="t.csv", rows=(Row(method="m", recipe="standard", synthetic="union:mixed"),))
    with pytest.raises(UserError, match=r"m: synthetic = union:mixed, but training\.standard\.synthetic_fraction"):
        make_plan(load_config(merge(TINY, NIETH)), {"t": table}, results=tmp_path)


def test_a_model_is_trained_on_a_mixture_from_configuration_to_weights(tmp_path: Path) -> None:
    table = Table(title="sets", target="sets.csv", rows=(Row(method="mixed", synthetic="union:mixed"),))
    plan = make_plan(load_config(merge(TINY, NIETH)), {"sets": table}, results=tmp_path)
    plan.write_specs()
    model = next(stage for stage, spec in plan.stages.items() if spec.kind == "models")
    for stage in plan.needed_for([model]):
        run_stage(plan.directory(stage), Execution(device="cpu"))
    records = {s: json.loads(plan.record(s).read_text()) for s in plan.needed_for([model])}
    drawn = [facts for facts in (record["facts"] for record in records.values()) if "not_drawn_from" in facts]
    assert sorted(tuple(facts["not_drawn_from"].values()) for facts in drawn) == [(), (200,), (200, 50)]
    pools = [plan.directory(stage) for stage in records if "subset" in stage]
    digests = [read_digests(pool) for pool in pools]
    assert len(np.unique(np.concatenate(digests))) == 200 + 50 + 40
    assert (plan.directory(model) / "weights.safetensors").is_file()
