"""Scores that were measured elsewhere: read from each format, keyed by index, and pruned by."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from places import a_score
from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.job import run_stage
from robustprune.core.yaml_files import merge
from robustprune.experiments.row import Row
from robustprune.images.pool import open_pool
from robustprune.planning.plan import Plan
from robustprune.scores.score_files import read_score
from robustprune.scores.store.writer import write_store
from robustprune.sharing.commands import publish, pull
from tiny import SCORED, TINY, plan_rows, stage_of

COUNT = 1297


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, str]:
    """A team's published margins, and its pool."""
    return a_score(tmp_path_factory.mktemp("other") / "results")


Values = np.ndarray[Any, np.dtype[Any]]


def values() -> Values:
    return np.random.default_rng(3).normal(size=COUNT)


def as_table() -> pd.DataFrame:
    order = np.random.default_rng(4).permutation(COUNT)
    return pd.DataFrame({"index": order, "score": values()[order], "note": "x"})


def as_store(path: Path, made: tuple[Plan, str]) -> None:
    plan, score = made
    publish([plan.directory(score)], str(path.parent / "shared"))
    pull(score, [str(path.parent / "shared")], path.parent)
    (path.parent / score / "scores.zarr").rename(path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "csv": lambda path: as_table().to_csv(path, index=False),
    "npy": lambda path: np.save(path, values()),
    "parquet": lambda path: as_table().to_parquet(path),
}


def plan_of(folder: Path, file: Path, *, imported: dict[str, Any] | None = None, **row: Any) -> Plan:
    """A plan of one row that prunes by the file."""
    settings = {"train": str(file), "unit": "distance", "easy": "high", **(imported or {})}
    pruned = Row(method="ours", imported="ours", **{"strategy": "puma", **row})
    overrides = merge(SCORED, {"imported": {"ours": settings}})
    plan = plan_rows(pruned, overrides=overrides, results=folder / "results")
    plan.write_specs()
    return plan


def imported(plan: Plan) -> Path:
    """Do the stage that brings the scores in; returns its directory."""
    score = stage_of(plan, "scores", "imported")
    for stage in plan.needed_for([score]):
        run_stage(plan.directory(stage), Execution(device="cpu"))
    return plan.directory(score)


@pytest.mark.parametrize("form", [*WRITERS, "zarr"])
def test_scores_come_in_from_each_format_in_the_order_of_the_images(
    form: str, tmp_path: Path, pool: tuple[Plan, str]
) -> None:
    file, column, expected = tmp_path / f"scores.{form}", "score", values()
    if form == "zarr":
        as_store(file, pool)
        column, expected = "margin", np.random.default_rng(0).normal(size=COUNT)
    else:
        WRITERS[form](file)
    plan = plan_of(tmp_path, file, imported={"column": column})
    stage = imported(plan)
    scores, meaning = read_score(stage, pool_digest=read_pool_digest(plan, stage))
    np.testing.assert_array_equal(scores, expected.astype(np.float32))
    assert (meaning.column, meaning.unit, meaning.easy) == (column, "distance", "high")
    assert str(tmp_path) not in (stage / "scores.zarr" / "zarr.json").read_text()


def test_imported_scores_are_published_and_pulled_as_others_are(tmp_path: Path) -> None:
    WRITERS["npy"](tmp_path / "scores.npy")
    stage = imported(plan_of(tmp_path, tmp_path / "scores.npy"))
    publish([stage], str(tmp_path / "shared"))
    assert "every checksum right" in pull(stage.name, [str(tmp_path / "shared")], tmp_path / "here")
    assert str(tmp_path) not in (tmp_path / "shared" / "stores" / f"{stage.name}.json").read_text()


def read_pool_digest(plan: Plan, stage: Path) -> str:
    return open_pool(plan.directory(plan.upstream(stage.name)[0][1])).info.digest


def test_images_are_pruned_by_them_and_no_model_is_trained_for_it(tmp_path: Path) -> None:
    file = tmp_path / "scores.npy"
    np.save(file, values())
    plan = plan_of(tmp_path, file, imported={"margins": True}, radius="margin", ratio=0.25)
    assert [stage for stage in plan.stages if plan.stages[stage].kind == "scores"] == [stage_of(plan, "scores")]
    imported(plan)
    manifest = stage_of(plan, "manifests")
    run_stage(plan.directory(manifest), Execution(device="cpu"))
    rows = pq.read_table(plan.directory(manifest) / "manifest.parquet").to_pandas()
    first = COUNT - (len(rows) + round(0.25 * (COUNT - 100)))  # validation images are no candidates
    assert first == 100
    candidates = np.arange(first, COUNT)
    kept = candidates[np.argsort(values()[first:], kind="stable")[: len(rows)]]
    assert rows["index"].tolist() == sorted(kept.tolist())
    epsilon = np.clip(values()[rows["index"]].astype(np.float32), -0.15, 0.15)
    np.testing.assert_allclose(rows["epsilon"], epsilon, rtol=1e-6)


def test_radii_follow_measured_margins_where_the_scores_are_none(tmp_path: Path) -> None:
    np.save(tmp_path / "scores.npy", values())
    plan = plan_of(tmp_path, tmp_path / "scores.npy", radius="margin")
    kinds = sorted(stage.split("-")[0] for stage, spec in plan.stages.items() if spec.kind == "scores")
    assert kinds == ["imported", "margin"]


def changed(**columns: Any) -> pd.DataFrame:
    return as_table().assign(**columns)


BAD_TABLES: dict[str, tuple[Callable[[], pd.DataFrame], str]] = {
    "twice": (lambda: pd.concat([as_table(), as_table()[:2]]), r"image \d+ .* more than once, as have 1 others"),
    "missing": (lambda: as_table()[3:], r"image \d+ .* not at all, as have 2 others"),
    "outside": (lambda: changed(index=np.arange(COUNT) + 1), "index = 1297 is not one of the 1297 images"),
    "negative": (lambda: changed(index=np.arange(COUNT) - 1), "index = -1 is not one of"),
    "words": (lambda: changed(score="x"), "should have the columns index and score, of numbers"),
    "no column": (lambda: as_table().rename(columns={"score": "s"}), "should have the columns index and score"),
    "no index": (lambda: changed(index=pd.array([None, *range(COUNT - 1)], "Int64")), "no index|NA values"),
    "huge": (lambda: changed(index=np.arange(COUNT), score=[1.0, -1e300, *range(COUNT - 2)]), "image 1 is -1e\\+300, "),
    "nan": (lambda: changed(index=np.arange(COUNT), score=[np.nan, *range(COUNT - 1)]), "the score of image 0 is NaN"),
}


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("problem", BAD_TABLES)
def test_a_bad_table_is_refused(problem: str, form: str, tmp_path: Path) -> None:
    make, says = BAD_TABLES[problem]
    file = tmp_path / f"scores.{form}"
    make().to_csv(file, index=False) if form == "csv" else make().to_parquet(file)
    with pytest.raises(UserError, match=says):
        imported(plan_of(tmp_path, file))


BAD_FILES: dict[str, tuple[str, bytes | Values, str]] = {
    "pickle": ("s.npy", np.array([{}] * COUNT), r"is object \(1297,\), but should be numbers"),
    "too short": ("s.npy", np.zeros(COUNT - 1), r"\(1296,\), but should be numbers \(1297,\)"),
    "huge": ("s.npy", np.full(COUNT, 1e39), r"image 0 is 1e\+39, which float32 cannot hold"),
    "truncated": ("s.npy", b"\x93NUMPY\x01", "is not a readable npy file"),
    "zip": ("s.npy", b"PK\x03\x04" + bytes(99), "is not a readable npy file"),
    "no parquet": ("s.parquet", b"PAR1", "should have the columns"),
    "open header": ("s.npy", b"\x93NUMPY\x01\x00\x01\x00{", "is not a readable npy file"),
    "huge index": ("s.csv", b"index,score\n99999999999999999999,1", "of numbers: Overflow"),
    "empty": ("s.csv", b"", "should have the columns"),
}


@pytest.mark.parametrize("problem", BAD_FILES)
def test_a_bad_file_is_refused(problem: str, tmp_path: Path) -> None:
    name, content, says = BAD_FILES[problem]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(UserError, match=says):
        imported(plan_of(tmp_path, tmp_path / name))


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (np.zeros(COUNT - 1), "has 1296 rows, but should have 1297"),
        (np.array([*range(COUNT - 1), np.nan]), "the score of image 1296 is NaN"),
    ],
    ids=["rows", "nan"],
)
def test_a_bad_store_is_refused(scores: Any, says: str, tmp_path: Path, pool: tuple[Plan, str]) -> None:
    plan, score = pool
    file, digest = tmp_path / "s.zarr", read_pool_digest(plan, plan.directory(score))
    write_store(file, [{"score": scores.astype(np.float32)}], len(scores), {"pool_digest": digest})
    with pytest.raises(UserError, match=says):
        imported(plan_of(tmp_path, file))


def test_a_file_that_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "scores.npy"
    np.save(file, values())
    plan = plan_of(tmp_path, file)
    np.save(file, values() + 1)
    with pytest.raises(UserError, match="is not as it was when the plan was made"):
        imported(plan)


@pytest.mark.parametrize(
    ("row", "imported", "says"),
    [
        ({"score": "loss"}, {}, "takes the place of score"),
        ({"strategy": "random"}, {}, "needs a strategy that goes by a score"),
        ({}, {"train": "nowhere.csv"}, "imported.ours.train = nowhere.csv: there is no file"),
        ({}, {"train": "scores.txt"}, r"imported.ours.train = scores.txt should end in \.csv, \.npy, "),
        ({}, {"column": "../x"}, "imported.ours.column"),
        ({}, {"column": "index"}, "imported.ours.column = .*index"),
    ],
)
def test_mistakes_in_rows_and_config_are_named(
    row: dict[str, Any], imported: dict[str, Any], says: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "scores.npy", values())
    with pytest.raises((UserError, ValueError), match=says):
        plan_of(tmp_path, tmp_path / "scores.npy", imported=imported, **row)


def test_a_file_about_one_pool_is_not_taken_for_another(tmp_path: Path) -> None:
    """Both pools have as many images, so only the names differ."""
    for name in ("train", "synthetic"):
        np.save(tmp_path / f"{name}.npy", values())
    subset = {"of": "generate", "count": 40}
    sets = {"synthetic": {"count": 50}, "subsets": {"a": subset, "b": {**subset, "seed": 1}}}
    files = {name: str(tmp_path / f"{name}.npy") for name in ("train", "synthetic")}
    overrides = merge(TINY, {**sets, "imported": {"ours": {**files, "unit": "1", "easy": "high"}}})
    a, b = (Row(method=name, synthetic=f"subset:{name}", strategy="puma", imported="ours") for name in "ab")
    assert plan_rows(a, overrides=overrides, results=tmp_path).targets
    with pytest.raises(UserError, match=r"imported\.ours\.synthetic: .* those of digits-"):
        plan_rows(a, b, overrides=overrides, results=tmp_path)
