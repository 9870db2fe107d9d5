"""Several processes train one model: the same numbers as one process, killed, stopped and started again."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from processes import command, newest_save, wait_until
from robustprune.core.errors import Interrupted, UserError
from robustprune.core.execution import Execution
from robustprune.core.files import digest
from robustprune.core.job import Job, run_stage
from robustprune.core.steps import CHECKPOINT_FILE
from robustprune.core.team import PATIENCE, Team, _store, team_of
from robustprune.networks.weights import load_weights
from robustprune.training.mid_training import MidTraining
from tiny import recipe_table, run_upstream, stage_of, tiny_plan
from together import CASES, follow, normalised, train, write_pools

MakeJob = Callable[..., Job]
TOLERANCE = 1e-4  # relative, of an epoch's loss in the first 30 steps: gradients are summed in another order
LATER_TOLERANCE = 0.1  # rounding the first weights otherwise (1 + 1e-7) moves the later losses by up to 0.065
OUTPUTS = ("weights.safetensors", "raw.safetensors", "best.safetensors", "history.parquet")


def test_shares_of_a_batch_in_parts_are_every_nth_of_the_whole() -> None:
    parts = [torch.arange(5), torch.arange(5, 7), torch.arange(7, 15)]
    whole = torch.cat(parts)
    for size in (1, 2, 3, 4):
        for rank in range(size):
            team = Team(rank, size)
            assert torch.equal(torch.cat(team.share(parts)), whole[team.rows])


def test_two_processes_find_what_one_does(make_job: MakeJob) -> None:
    """BatchNorm layer by layer, then whole trainings: attack, online and midway pruning, deep networks."""
    job = make_job("models", "x", processes=2)
    write_pools(job.directory)
    with team_of(job, follow) as team:
        assert team == Team(0, 2)
        layers = {shares: normalised(shares=shares, team=team) for shares in (1, 2)}
        trained = {name: train(job.directory, name, team) for name in CASES}
    other_layers = torch.load(job.partial / "follower.pt")
    for shares in (1, 2):
        alone = normalised(shares=shares, team=Team())
        for name, value in alone.items():
            by_image = name in ("outputs", "gradient of images")
            expected = value[::2] if by_image else value
            torch.testing.assert_close(layers[shares][name], expected, rtol=1e-4, atol=1e-4)
            if by_image:
                torch.testing.assert_close(other_layers[shares][name], value[1::2], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(layers[1]["outputs"], layers[2]["outputs"], rtol=1e-2)
    for name, together in trained.items():
        reference = train(job.directory, name, Team())
        pd.testing.assert_frame_equal(together.history_table(), reference.history_table(), rtol=TOLERANCE)
        follower = torch.load(job.partial / f"follower-{name}.pt")
        for key, weight in together.model.state_dict().items():
            if "running" in key or not name.startswith("deep"):  # the gradients of the deep ones hang on rounding
                torch.testing.assert_close(weight, reference.model.state_dict()[key], rtol=1e-2, atol=1e-3)
            if "running" not in key:  # where statistics are local, each process has its own
                assert torch.equal(weight, follower[key])


PROCESSES = ("--processes", "2")


def start(stage: Path) -> subprocess.Popen[str]:
    """Start it as the leader of a process group of its own, and wait for the next checkpoint."""
    before = newest_save(stage, CHECKPOINT_FILE)
    process = subprocess.Popen(command(stage, *PROCESSES), stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_until(lambda: newest_save(stage, CHECKPOINT_FILE) != before, process)
    return process


def group_of(leader: int) -> set[int]:
    """The living processes of a process group, by their ids."""
    members = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = status.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(group) == leader and state != "Z":
            members.add(int(status.parent.name))
    return members


def followers_of(leader: int) -> set[int]:
    """Those of its process group that are neither it nor Python's resource tracker."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in group_of(leader) - {leader}}
    return {pid for pid, line in lines.items() if "spawn_main" in line}


def gone(leader: int) -> bool:
    deadline = time.monotonic() + 10
    while group_of(leader) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not group_of(leader)


def content(stage: Path) -> dict[str, str]:
    return {name: digest(stage / name) for name in OUTPUTS}


@pytest.mark.slow
def test_two_processes_reproduce_the_loss_curve_and_go_on_to_the_same_bits(tmp_path: Path) -> None:
    recipe = {"training": {"pgd_at": {"epochs": 8, "validation_images": 20}}}
    plan = tiny_plan(tmp_path / "results", recipe, recipe_table("pgd_at"))
    stage_id = stage_of(plan, "models", "pgdat")
    run_upstream(plan, stage_id)
    stage = plan.directory(stage_id)
    alone, unbroken = (tmp_path / name / "digits" / "models" / stage_id for name in ("alone", "unbroken"))
    for copy in (alone, unbroken):
        shutil.copytree(plan.results, copy.parents[1])
    run_stage(alone / "spec.json", Execution(device="cpu"))
    subprocess.run(command(unbroken, *PROCESSES, seconds=1e9), check=True, capture_output=True)
    curve, reference = (pd.read_parquet(copy / "history.parquet") for copy in (unbroken, alone))
    pd.testing.assert_frame_equal(curve[:2], reference[:2], rtol=TOLERANCE)
    pd.testing.assert_series_equal(curve["loss"], reference["loss"], rtol=LATER_TOLERANCE)
    assert reference["loss"].iloc[-1] < 0.8 * reference["loss"].iloc[0]
    weights, reference_weights = (load_weights(copy / "weights.safetensors") for copy in (unbroken, alone))
    assert not all(torch.equal(value, weights[name]) for name, value in reference_weights.items())
    facts = [json.loads((copy / "record.json").read_text())["facts"] for copy in (alone, unbroken)]
    assert [one["processes"] for one in facts] == [1, 2]
    assert {(one["batchnorm"], one["real_in_batch"]) for one in facts} == {(None, 64)}

    process = start(stage)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert gone(process.pid)

    process = start(stage)
    (follower,) = followers_of(process.pid)
    os.kill(follower, signal.SIGKILL)
    assert process.wait(60) == 1
    assert "ended too early: process 2 of 2 with exit code -9" in process.communicate()[1]
    assert gone(process.pid)

    process = start(stage)
    os.killpg(process.pid, signal.SIGTERM)  # as SLURM does; followers do not heed it
    log = process.communicate(timeout=60)[1]
    assert process.returncode == Interrupted.exit_code, log
    assert "stopped by SIGTERM; checkpoint saved" in log
    assert gone(process.pid)

    again = subprocess.run(command(stage, *PROCESSES, seconds=1e9), check=True, capture_output=True, text=True)
    assert re.search(r"going on from [1-9]\d* of 120 steps", again.stderr)
    assert content(stage) == content(unbroken)
    assert not (stage / "partial").exists()


def test_shares_and_processes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    shares = {"architecture": "resnet18", "training": {"pgd_at": {"batchnorm_shares": 3}}}
    plan = tiny_plan(tmp_path / "results", shares, recipe_table("pgd_at"))
    stage_id = stage_of(plan, "models", "pgdat")
    run_upstream(plan, stage_id)
    with pytest.raises(UserError, match=r"execution.processes = 2, but training.pgd_at.batchnorm_shares = 3"):
        run_stage(plan.directory(stage_id), Execution(device="cpu", processes=2))


def test_a_batch_with_fewer_images_than_processes_is_refused(tmp_path: Path) -> None:
    write_pools(tmp_path)
    with pytest.raises(UserError, match=r"has 5 images, .* 6 or more, .*= 11"):
        train(tmp_path, "midway", Team(0, 6))


def test_a_batch_that_becomes_too_small_in_the_middle_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pools(tmp_path)
    midway = MidTraining(keep=0.75, strategy="low_distance", at="clean")  # 45 of 60 images, in batches of 11
    monkeypatch.setitem(CASES, "midway", {**CASES["midway"], "mid_training": midway})
    with pytest.raises(UserError, match=r"has 1 images, but should have 2 or more, .*batch_size = 11"):
        train(tmp_path, "midway", Team(0, 2))


def test_followers_wait_for_the_leader_as_long_as_it_records_or_scores() -> None:
    leads = _store(0, leads=True)
    for store in (leads, _store(leads.port)):
        assert store.timeout == PATIENCE  # type: ignore[attr-defined]


def test_torchrun_is_refused(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(UserError, match="robustprune run --processes N"), team_of(make_job("models", "x"), follow):
        pass


def test_each_process_needs_a_gpu(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job("models", "x", processes=2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device, says in [("cuda", "this machine has 1 GPUs"), ("cuda:0", "use cuda")]:
        job.device = torch.device(device)
        with pytest.raises(UserError, match=says), team_of(job, follow):
            pass
