"""Several jobs share the rows of a score stage: the same bytes as one job, whatever is killed in between."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from processes import command, kill_after_save
from robustprune.cli.main import main
from robustprune.core.errors import UserError
from robustprune.core.execution import CHUNK_BATCHES, Execution
from robustprune.core.files import digest
from robustprune.core.job import Job, run_part, run_stage
from robustprune.core.rows import collect, compute_rows
from robustprune.experiments.papers import load_experiments
from robustprune.images.formats.digits import read
from robustprune.images.sources import DigitsSource, FileSource, planned_rows
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.scores.store.writer import write_store
from tiny import TINY, run_upstream, stage_of, tiny_plan

CPU = Execution(device="cpu", batch_size=32 // CHUNK_BATCHES)  # 32 rows are computed at a time


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, str]:
    """A plan, and a score stage of it, of 300 generated images, all of whose upstream is there."""
    plan = tiny_plan(tmp_path_factory.mktemp("parts") / "results")
    stage_id = stage_of(plan, "scores", "generated")
    run_upstream(plan, stage_id)
    return plan, stage_id


def copy_of(stage: Path, folder: Path) -> Path:
    """The directory of the stage in a copy of all results."""
    results = stage.parents[2]
    return shutil.copytree(results, folder / "results") / stage.relative_to(results)


@pytest.fixture(scope="module")
def in_one_job(ready: tuple[Plan, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage's directory when one job did it."""
    plan, stage_id = ready
    stage = copy_of(plan.directory(stage_id), tmp_path_factory.mktemp("one"))
    run_stage(stage, CPU)
    return stage


@pytest.fixture
def stage(ready: tuple[Plan, str], tmp_path: Path) -> Path:
    """The directory of the stage, not begun."""
    plan, stage_id = ready
    return copy_of(plan.directory(stage_id), tmp_path)


def assert_same_outputs(stage: Path, other: Path) -> None:
    for name in ("scores.zarr", "scores.png"):
        assert digest(stage / name) == digest(other / name)
    facts = [json.loads((folder / "record.json").read_text())["facts"] for folder in (stage, other)]
    assert facts[0] == facts[1]
    assert facts[0]["heuristic_error"]["images"] == 64  # a hundredth of 300 would be too few


def test_parts_in_any_order_end_in_the_bytes_of_one_job(stage: Path, in_one_job: Path) -> None:
    for rows in (range(128, 256), range(256, 300), range(128)):
        run_part(stage, rows, CPU)
    marker = json.loads((stage / "parts" / "128-256.json").read_text())
    assert (marker["id"], marker["rows"]) == (stage.name, [128, 256])
    assert not (stage / "record.json").exists()
    run_stage(stage, CPU)
    assert_same_outputs(stage, in_one_job)
    assert not (stage / "partial").exists()


def test_the_last_job_computes_what_no_part_did(
    stage: Path, in_one_job: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run_part(stage, range(64, 128), CPU)
    run_stage(stage, CPU)
    assert "measuring margins: going on from 64 of 300 images" in caplog.messages
    assert_same_outputs(stage, in_one_job)


def test_a_part_of_a_complete_stage_is_done_at_once(in_one_job: Path, tmp_path: Path) -> None:
    stage = copy_of(in_one_job, tmp_path)
    run_part(stage, range(128), CPU)
    assert (stage / "parts" / "0-128.json").is_file()
    assert not (stage / "partial").exists()


@pytest.mark.parametrize("rows", [range(100), range(288, 320), range(16, 64), range(64, 64)], ids=str)
def test_rows_out_of_place_are_refused(stage: Path, rows: range) -> None:
    with pytest.raises(UserError, match=f"--rows {rows.start}:{rows.stop}: .* multiples of 32, .* 300"):
        run_part(stage, rows, CPU)
    assert not list(stage.glob("parts/*.json"))


def test_a_stage_that_is_one_job_has_no_parts(ready: tuple[Plan, str]) -> None:
    plan, _ = ready
    with pytest.raises(UserError, match="of kind models"):
        run_part(plan.directory(stage_of(plan, "models")), range(10), CPU)


BATCHES = ("--batch-size", str(CPU.batch_size))


@pytest.mark.slow
def test_killed_parts_go_on(stage: Path, in_one_job: Path) -> None:
    part = (*BATCHES, "--rows", "0:192")
    for _ in range(2):
        kill_after_save(stage, *part)
        assert not (stage / "parts" / "0-192.json").exists()
    before = len(list((stage / "partial" / "blocks").glob("rows-*")))
    again = subprocess.run(command(stage, *part), check=True, capture_output=True, text=True)
    assert f"going on from {before * 32} of" in again.stderr
    run_stage(stage, CPU)
    assert_same_outputs(stage, in_one_job)


def squares(start: int, stop: int) -> dict[str, Any]:
    return {"square": np.arange(start, stop) ** 2}


def test_rows_that_two_jobs_computed_come_once(make_job: Callable[..., Job]) -> None:
    """As when the size of parts was changed between two runs."""
    job = make_job("scores", "x", batch_size=4)
    folder = job.partial / "blocks"
    list(compute_rows(job, 20, squares, what="squaring", rows=range(8, 16)))
    (folder / "rows-000000000008-000000000016.npz").rename(folder / "hidden")
    list(compute_rows(job, 20, squares, what="squaring", rows=range(4, 12)))
    (folder / "hidden").rename(folder / "rows-000000000008-000000000016.npz")
    seen = collect(compute_rows(job, 20, squares, what="squaring"))
    np.testing.assert_array_equal(seen["square"], np.arange(20) ** 2)
    some = collect(compute_rows(job, 20, squares, what="squaring", rows=range(8, 20)))
    np.testing.assert_array_equal(some["square"], np.arange(8, 20) ** 2)


def test_a_damaged_block_is_named(make_job: Callable[..., Job]) -> None:
    job = make_job("scores", "x", batch_size=4)
    list(compute_rows(job, 8, squares, what="squaring"))
    (path,) = (job.partial / "blocks").iterdir()
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"rows-000000000000-000000000008.npz is damaged .* delete it"):
        list(compute_rows(job, 8, squares, what="squaring"))


def plan_of(overrides: dict[str, Any]) -> Plan:
    return make_plan(load_config({**TINY, **overrides}), load_experiments())


def test_the_plan_cuts_large_pools_and_no_id_knows() -> None:
    whole, cut = plan_of({}), plan_of({"execution": {"part_rows": 100, "batch_size": 8}})  # 128 rows are two chunks
    assert set(whole.stages) == set(cut.stages)
    score = stage_of(cut, "scores", "generated")
    assert whole.parts(score) == []
    assert cut.parts(score) == [range(128), range(128, 256), range(256, 300)]
    assert cut.parts(stage_of(cut, "pools", "generated")) == cut.parts(score)
    assert cut.parts(stage_of(cut, "pools", "train")) == cut.parts(stage_of(cut, "models")) == []


def test_a_generated_pool_is_drawn_in_parts(ready: tuple[Plan, str], tmp_path: Path) -> None:
    plan, _ = ready
    whole = plan.directory(stage_of(plan, "pools", "generated"))
    stage = copy_of(whole, tmp_path)
    for path in stage.iterdir():
        if path.name != "spec.json":
            path.unlink()
    for rows in (range(256, 300), range(256)):
        run_part(stage, rows, CPU)
    run_stage(stage, CPU)
    ours, theirs = (np.load(folder / "images.npy").astype(int) for folder in (stage, whole))
    assert np.abs(ours - theirs).max() <= 1  # drawn in batches of another size, which may round a pixel otherwise
    assert (ours == theirs).mean() > 0.99


def test_rows_are_counted_from_headers(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", image=np.zeros((7, 4, 4, 3), np.uint8), label=np.zeros(7, np.int64))
    (tmp_path / "b-idx").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 9]) + bytes(8))
    for number in range(2):
        pq.write_table(pa.table({"label": [1, 2, 3]}), tmp_path / f"c{number}.parquet")

    def source(form: str, *names: str) -> FileSource:
        location = [str(tmp_path / name) for name in names]
        return FileSource.model_validate({"format": form, "digest": "0" * 64, "location": location})

    assert planned_rows(source("npz", "a.npz"), "train") == 7
    assert planned_rows(source("idx", "b-idx", "b-idx"), "train") == 9
    assert planned_rows(source("parquet", "c0.parquet", "c1.parquet"), "train") == 6
    assert planned_rows(source("npz", "b-idx"), "train") is None


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_size_of_a_librarys_set_is_known(split: Literal["train", "test"]) -> None:
    assert planned_rows(DigitsSource(), split) == len(read(split)[1])


def test_show_prints_how_scores_are_spread(in_one_job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(in_one_job)]) == 0
    text = capsys.readouterr().out
    facts = json.loads((in_one_job / "record.json").read_text())["facts"]
    assert "source: drawn from edm-digits" in text
    assert f"negative: {facts['negative']}" in text
    assert f"share_censored: {facts['share_censored']}" in text
    assert '"50%": ' in text
    rows = [line.split() for line in text.splitlines()]
    by_class = [row for row in rows if len(row) == 10 and row[0].isdigit()]
    assert [int(row[0]) for row in by_class] == list(range(10))
    assert [int(row[1]) for row in by_class] == [30] * 10
    bars = [row for row in rows if row and set(row[-1]) == {"#"}]
    assert sum(int(row[1]) for row in bars) == 300 - facts["censored"]
    assert 5 <= len(bars) <= 24


def test_a_whole_store_is_verified(in_one_job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (in_one_job, in_one_job / "scores.zarr"):
        assert main(["store", "verify", str(path)]) == 0
        assert "300 rows, margin, prediction, converged, steps; all 8 files as written" in capsys.readouterr().out


def change_pool_digest(stage: Path) -> None:
    (pool,) = (stage.parents[1] / "pools").glob("digits-generated-*/pool.json")
    pool.write_text(json.dumps({**json.loads(pool.read_text()), "digest": "f" * 64}))


def write_another_store(stage: Path) -> None:
    write_store(stage / "scores.zarr", [{"margin": np.zeros(300, np.float32)}], 300, {})


CHUNK = "scores.zarr/margin/c/0"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped bit": (
        lambda stage: (stage / CHUNK).write_bytes((stage / CHUNK).read_bytes()[:-1] + b"?"), "margin/c/0 is damaged"
    ),
    "truncated": (lambda stage: os.truncate(stage / CHUNK, 50), "margin/c/0 is damaged: it has 50 bytes"),
    "file missing": (lambda stage: (stage / CHUNK).unlink(), "margin/c/0 is missing"),
    "another pool": (change_pool_digest, f"but its stage reads {'f' * 64}"),
    "another store": (write_another_store, "its digest is not the one in"),
    "store missing": (lambda stage: shutil.rmtree(stage / "scores.zarr"), "holds no store"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "says"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_wrong_with_a_store_is_named(
    damage: Callable[[Path], object], says: str, in_one_job: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = copy_of(in_one_job, tmp_path)
    damage(stage)
    assert main(["store", "verify", str(stage)]) == 2
    assert says in caplog.messages[-1]
    assert len(caplog.messages[-1].splitlines()) == 1
