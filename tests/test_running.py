"""What every stage stands on: blocks, checkpoints, progress, randomness, files, records, the lock."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from processes import Killed
from robustprune.core.device import prepare_device
from robustprune.core.errors import Interrupted, UserError
from robustprune.core.files import digest, move_over, replacing, write_text
from robustprune.core.interruption import Checkpoints
from robustprune.core.job import Job, _alone
from robustprune.core.progress import Progress
from robustprune.core.randomness import derive_seed, generator
from robustprune.core.record import make_record, read_record
from robustprune.core.rows import collect, compute_rows
from robustprune.core.sample_noise import per_sample
from robustprune.core.steps import load_state, save_state

MakeJob = Callable[..., Job]


def squares(start: int, stop: int) -> dict[str, np.ndarray]:
    return {"square": np.arange(start, stop) ** 2}


def test_rows_are_computed_in_order_in_batches_with_fixed_borders(make_job: MakeJob) -> None:
    seen: list[tuple[int, int]] = []

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        seen.append((start, stop))
        return squares(start, stop)

    columns = collect(compute_rows(make_job("scores", "x", batch_size=4), 10, compute, what="squaring"))
    np.testing.assert_array_equal(columns["square"], np.arange(10) ** 2)
    assert seen == [(0, 4), (4, 8), (8, 10)]


@pytest.mark.parametrize("die_at", [0, 4, 8])
def test_a_killed_computation_goes_on_behind_its_last_block(make_job: MakeJob, die_at: int) -> None:
    job = make_job("scores", "x", batch_size=4, checkpoint_seconds=0)
    seen: list[int] = []

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        if start == die_at and not seen.count(-1):
            seen.append(-1)
            raise Killed
        seen.append(start)
        return squares(start, stop)

    with pytest.raises(Killed):
        compute_rows(job, 10, compute, what="squaring")
    columns = collect(compute_rows(job, 10, compute, what="squaring"))
    np.testing.assert_array_equal(columns["square"], np.arange(10) ** 2)
    assert sorted(start for start in seen if start >= 0) == [0, 4, 8]


def test_a_signal_saves_and_ends_the_loop(make_job: MakeJob) -> None:
    job = make_job("scores", "x", batch_size=1, checkpoint_seconds=1e9)
    before = signal.getsignal(signal.SIGUSR1)

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        if start == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
        return squares(start, stop)

    with pytest.raises(Interrupted, match="SIGUSR1; checkpoint saved"):
        compute_rows(job, 9, compute, what="squaring")
    assert signal.getsignal(signal.SIGUSR1) == before
    assert [path.name for path in sorted((job.partial / "blocks").iterdir())] == ["rows-000000000000-000000000003.npz"]


def test_checkpoints_save_when_it_is_time() -> None:
    saved: list[int] = []
    never, always = Checkpoints(1e9), Checkpoints(0)
    for step in range(3):
        never.tick(lambda: saved.append(-1))
        always.tick(lambda step=step: saved.append(step))  # type: ignore[misc]
    assert saved == [0, 1, 2]


def test_a_loop_within_a_step_leaves_signals_to_the_loop_around_it() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    checkpoints, saved = Checkpoints(1e9), []
    with pytest.raises(Interrupted), checkpoints:
        with checkpoints:
            checkpoints.tick(lambda: saved.append("inner"))
        os.kill(os.getpid(), signal.SIGUSR1)
        checkpoints.tick(lambda: saved.append("outer"))
    assert saved == ["outer"]
    assert signal.getsignal(signal.SIGUSR1) == before


def test_slurms_second_signal_is_remembered_as_the_first_was() -> None:
    """SIGUSR1 before the limit, SIGTERM at it: a batch that takes longer than that in between is not torn."""
    saved = []
    with Checkpoints(1e9) as checkpoints:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="stopped by SIGTERM"):
            checkpoints.tick(lambda: saved.append(1))
    assert saved == [1]


def test_a_second_ctrl_c_ends_the_process_at_once() -> None:
    with Checkpoints(1e9):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_progress_has_rate_and_time_left() -> None:
    progress = Progress("scoring", total=1000, unit="images", done=100)
    progress.done += 100
    line = progress.line(progress._started_at + 10)
    assert line == "scoring: 200 of 1,000 images, 10.0/s, 0:01:20 left"


def test_progress_writes_plain_lines_where_there_is_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Progress("scoring", total=3, unit="images", done=1) as progress:
        progress.advance()
        progress.advance()
    assert caplog.messages[0] == "scoring: going on from 1 of 3 images"
    assert caplog.messages[-1].startswith("scoring: 3 of 3 images")
    assert len(caplog.messages) == 2


def test_progress_draws_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("scoring", total=2, unit="images", live=True) as progress:
        progress.advance(2)
    assert "scoring" in capsys.readouterr().err


def test_seeds_differ_by_purpose_and_stay() -> None:
    assert derive_seed(0, "batch", 1) == 8147813432108232968  # core.seeds has no DEFINITION to raise
    seeds = {derive_seed(seed, purpose, step) for seed in range(5) for purpose in "ab" for step in range(100)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert generator(3, "noise").initial_seed() == derive_seed(3, "noise")


@pytest.mark.parametrize("draw", ["uniform", "normal"])
def test_a_samples_draw_does_not_depend_on_its_batch(draw: str) -> None:
    whole = per_sample(draw, (3, 4), torch.arange(50), 1, "start")
    part = per_sample(draw, (3, 4), torch.tensor([41, 7]), 1, "start")
    assert torch.equal(part, whole[[41, 7]])


def test_no_two_samples_draw_the_same() -> None:
    """With 32 bits of a seed, which is what PyTorch takes on a CPU, the first two did, and some of so many do."""
    pair = per_sample("normal", (8,), torch.tensor([693_639, 815_439]), 0, "latent")
    assert not torch.equal(pair[0], pair[1])
    many = per_sample("uniform", (3,), torch.arange(300_000), 1, "start").numpy()
    assert len(np.unique(many.view([("", many.dtype)] * 3))) == len(many)


def test_a_samples_draw_is_that_of_a_generator_of_its_own() -> None:
    for sample, draw in ((0, "normal"), (7, "uniform"), (2**40, "normal")):
        source = np.random.Generator(np.random.Philox(key=derive_seed(3, "start"), counter=[0, 0, 0, sample]))
        fill = source.standard_normal if draw == "normal" else source.random
        expected = fill((3, 4), dtype=np.float32)
        found = per_sample(draw, (3, 4), torch.tensor([5, sample]), 3, "start")[1].numpy()
        np.testing.assert_array_equal(found, expected if draw == "normal" else expected * 2 - 1)


def test_draws_have_their_distribution() -> None:
    uniform = per_sample("uniform", (1000,), torch.arange(50), 1, "start")
    assert -1 <= uniform.min() <= uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0, abs=0.01)
    assert uniform.var().item() == pytest.approx(1 / 3, abs=0.01)
    normal = per_sample("normal", (1000,), torch.arange(50), 1, "start")
    assert normal.std().item() == pytest.approx(1, abs=0.01)
    with pytest.raises(ValueError, match="'cauchy' should be"):
        per_sample("cauchy", (1,), torch.arange(1), 1, "start")


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(Killed), replacing(path) as temporary:
        temporary.write_text("half")
        raise Killed
    assert list(tmp_path.iterdir()) == []
    write_text(path, "whole")
    assert path.read_text() == "whole"


def test_moving_over_what_an_earlier_attempt_left(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    move_over(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["new"]


def test_a_folders_digest_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    first = digest(tmp_path)
    (tmp_path / "a").write_text("y")
    second = digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, digest(tmp_path)}) == 3


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state: dict[str, Any] = {"step": 3, "model": {"w": torch.arange(3.0)}, "history": [{"loss": 0.5}]}
    assert load_state(tmp_path / "state.pt") is None
    save_state(tmp_path / "state.pt", state)
    loaded = load_state(tmp_path / "state.pt")
    assert loaded is not None
    assert torch.equal(loaded["model"]["w"], state["model"]["w"])
    assert (loaded["step"], loaded["history"]) == (3, [{"loss": 0.5}])


def test_a_record_says_how_outputs_were_made(tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    output.write_text("hello")
    how: dict[str, Any] = {"seconds": 1.5, "device": "cpu", "peak_gpu_memory_mb": 0, "facts": {"kept": 3}}
    record = make_record("x-0123456789", [output], known={}, **how)
    record.write(tmp_path)
    assert read_record(tmp_path) == record
    assert record.digests == {"out.txt": digest(output)}
    assert record.peak_memory_mb > 10
    assert record.versions["torch"] == torch.__version__.partition("+")[0] or "+" in record.versions["torch"]
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(UserError, match="not a stage's record"):
        read_record(tmp_path)
    with pytest.raises(UserError, match="is not complete"):
        read_record(tmp_path / "elsewhere")


def test_a_gpu_that_is_not_there_is_not_replaced_in_silence() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match=r"execution.device = cuda, but torch finds no GPU"):
        prepare_device("cuda", threads=1)
    assert prepare_device("auto", threads=1) == torch.device("cpu")


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_jobs_of_a_stage_wait_for_each_other_unless_both_are_parts(tmp_path: Path, first: bool, second: bool) -> None:
    trying, entered = threading.Event(), threading.Event()

    def run_second() -> None:
        trying.set()
        with _alone(tmp_path / ".lock", shared=second):
            entered.set()

    with _alone(tmp_path / ".lock", shared=first):
        thread = threading.Thread(target=run_second)
        thread.start()
        assert trying.wait(30)
        assert entered.wait(30 if first and second else 0.2) == (first and second)
    assert entered.wait(30)
    thread.join()


def test_a_step_gets_the_memory_that_the_one_before_it_freed() -> None:
    program = """
import resource, torch
from robustprune.core.device import prepare_device
prepare_device("cpu", threads=1)
for step in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(1_600_000) for _ in range(20)]  # 128 MB, 31,250 pages
    del tensors
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert sum(map(int, found.stdout.split()[1:])) < 31_250
