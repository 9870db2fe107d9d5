"""Killed anywhere, it goes on: real processes, real kill -9, and the same bytes as an unbroken run."""

import logging
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from processes import command, kill_after_save, newest_save, remembers_signals, wait_until
from robustprune.core.errors import Interrupted, UserError
from robustprune.core.execution import Execution
from robustprune.core.files import digest
from robustprune.core.job import run_stage
from robustprune.core.steps import load_state, save_state
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.training.mid_training import MidTraining
from robustprune.training.online import OnlinePuma
from robustprune.training.recipes.base import RecipeName
from tiny import recipe_table, run_upstream, stage_of, tiny_plan


@dataclass(frozen=True)
class Long:
    """A stage that takes a while, and the outputs that must come out the same."""

    kind: str
    word: str
    outputs: tuple[str, ...]
    overrides: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Table] | None = None
    kills: int = 2


OUTCOME = ("outcome.parquet", "summary.json")
WEIGHTS = ("weights.safetensors", "raw.safetensors", "best.safetensors", "history.parquet")


def recipe(name: RecipeName) -> Long:
    """A training by another recipe than TRADES, on the real images alone."""
    overrides = {"training": {name: {"epochs": 4, "validation_images": 20}}}
    return Long("models", name.replace("_", ""), WEIGHTS, overrides, recipe_table(name), kills=1)


def within(word: str, recipe: RecipeName, *outputs: str, **how: Any) -> Long:
    """A training that prunes on its own."""
    overrides = {"training": {recipe: {"epochs": 4, "epoch_images": None, "batch_size": 64, "synthetic_fraction": 0}}}
    tables = {"within": Table(title=word, target="within.csv", rows=(Row(method=word, recipe=recipe, **how),))}
    return Long("models", word, (*WEIGHTS[:2], "history.parquet", *outputs), overrides, tables, kills=1)


STAGES = [
    Long("generators", "edm", ("weights.safetensors", "history.parquet")),
    Long("pools", "generated", ("images.npy", "labels.npy")),
    Long("models", "trades", WEIGHTS, {"training": {"trades": {"epochs": 8, "validation_steps": 5}}}),
    recipe("standard"),
    recipe("pgd_at"),
    recipe("rs_fgsm"),
    within("online", "pgd_at", online=OnlinePuma(threshold=1)),
    Long("scores", "generated", ("scores.zarr",)),
    Long("evaluations", "autoattack-trades", OUTCOME, {"evaluation": {"autoattack_images": 40}}),
]


BATCHES = ("--batch-size", "16")  # so that a stage's rows are several


def ready(folder: Path, kind: str, word: str, overrides: dict[str, Any] | None = None, tables: Any = None) -> Path:
    """The directory of a stage, not begun, all of whose upstream is there."""
    plan = tiny_plan(folder / "results", overrides, tables)
    stage = stage_of(plan, kind, word)
    run_upstream(plan, stage)
    return plan.directory(stage)


def run_unbroken(stage: Path, folder: Path) -> Path:
    """The same stage, done at one go beside the results."""
    results = folder / "results"
    shutil.copytree(results, folder / "unbroken")
    unbroken = folder / "unbroken" / stage.relative_to(results)
    run_stage(unbroken, Execution(device="cpu", batch_size=16, checkpoint_seconds=1e9))
    return unbroken


def content(stage: Path, outputs: tuple[str, ...]) -> dict[str, str]:
    return {name: digest(stage / name) for name in outputs}


@pytest.mark.slow
@pytest.mark.parametrize("case", STAGES, ids=lambda case: f"{case.kind}-{case.word}")
def test_killed_and_started_again_it_ends_in_the_same_bytes(case: Long, tmp_path: Path) -> None:
    stage = ready(tmp_path, case.kind, case.word, case.overrides, case.tables)
    unbroken = run_unbroken(stage, tmp_path)

    for _ in range(case.kills):
        kill_after_save(stage, *BATCHES)
    again = subprocess.run(command(stage, *BATCHES, seconds=1e9), check=True, capture_output=True, text=True)

    assert "going on from" in again.stderr
    assert content(stage, case.outputs) == content(unbroken, case.outputs)
    assert not (stage / "partial").exists()


@pytest.mark.slow
def test_killed_while_it_scores_its_images_a_training_goes_on_with_the_rest_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    how = MidTraining(keep=0.6, strategy="low_distance", score="deepfool")
    case = within("midway", "rs_fgsm", "mid_training.parquet", mid_training=how)
    stage = ready(tmp_path, case.kind, case.word, case.overrides, case.tables)
    unbroken = run_unbroken(stage, tmp_path)

    kill_after_save(stage, *BATCHES, files="midway-*/rows-*.npz")
    assert not (stage / "partial" / "choice.parquet").exists(), "it had scored all before it could be killed"
    caplog.set_level(logging.INFO)
    run_stage(stage, Execution(device="cpu"))

    assert re.search(r"scoring after epoch 1 of 4: going on from [1-9][\d,]* of", caplog.text)
    assert content(stage, case.outputs) == content(unbroken, case.outputs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_makes_it_save_and_end_as_try_again(number: signal.Signals, tmp_path: Path) -> None:
    stage = ready(tmp_path, "models", "trades", {"training": {"trades": {"epochs": 20, "validate_every": 0}}})
    process = subprocess.Popen(command(stage, seconds=1e9), stderr=subprocess.PIPE, text=True)
    wait_until(lambda: remembers_signals(process.pid), process)
    assert newest_save(stage) == (0, "")
    os.kill(process.pid, number)
    _, log = process.communicate(timeout=60)
    assert process.returncode == Interrupted.exit_code
    assert f"stopped by {number.name}; checkpoint saved" in log
    again = subprocess.run(command(stage, seconds=1e9), check=True, capture_output=True, text=True)
    assert re.search(r"going on from [1-9][\d,]* of 300 steps", again.stderr)


def test_a_complete_stage_is_left_alone_and_a_record_that_only_snakemake_took_away_is_put_back(tmp_path: Path) -> None:
    stage = ready(tmp_path, "pools", "test")
    subprocess.run(command(stage), check=True, capture_output=True)
    before = {path: path.stat().st_mtime_ns for path in stage.iterdir() if path.name != ".lock"}
    again = subprocess.run(command(stage), check=True, capture_output=True, text=True)
    assert "is complete" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in stage.iterdir() if path.name != ".lock"} == before
    written = (stage / "images.npy").stat().st_mtime_ns
    record = (stage / "record.json").read_text()
    (stage / "record.json").unlink()  # as for a job that outlived Snakemake
    again = subprocess.run(command(stage), check=True, capture_output=True, text=True)
    assert "is complete" in again.stderr
    assert (stage / "record.json").read_text() == record
    (stage / "record.json").unlink()
    (stage / "labels.npy").write_bytes(b"damaged")
    subprocess.run(command(stage), check=True, capture_output=True)
    assert (stage / "images.npy").stat().st_mtime_ns != written


@pytest.mark.parametrize("damage", [lambda _: b"", lambda whole: whole[:99], lambda whole: bytes(len(whole))])
def test_a_damaged_checkpoint_is_named_and_what_to_delete(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    save_state(checkpoint, {"step": 3, "state": {"weight": torch.arange(9)}})
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(UserError, match=rf"^{checkpoint} is damaged \(\w+Error\); delete {tmp_path}"):
        load_state(checkpoint)


@pytest.mark.parametrize(("kind", "word", "saves"), [("pools", "train", False), ("models", "trades", True)])
def test_a_full_disk_is_one_sentence_and_loses_nothing(kind: str, word: str, saves: bool, tmp_path: Path) -> None:
    stage = ready(tmp_path, kind, word)
    if saves:
        kill_after_save(stage)
    limited = ["bash", "-c", 'ulimit -f 20; trap "" XFSZ; exec "$@"', "--", *command(stage)]
    full = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert "disk full" in full.stderr.splitlines()[-1]
    assert "Traceback" not in full.stderr
    assert not (stage / "record.json").exists()
    again = subprocess.run(command(stage, seconds=1e9), check=True, capture_output=True, text=True)
    assert bool(re.search("going on from [1-9]", again.stderr)) == saves
