"""The whole digits default, at its smallest, through a real one-node SLURM with a pretend GPU."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from checkout import Checkout
from processes import remembers_signals
from robustprune.scores.store.reader import open_store
from tiny import run_upstream, stage_of, tiny_plan

CLUSTER = Path(__file__).parent / "slurm" / "one-node-slurm.sh"
TABLE = "results/table1.csv"
LOG = "snakemake.log"
pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def require(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (Debian: slurm-wlm munge slurmdbd mariadb-server-core)")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A running one-node cluster, first on PATH; with accounting where the test asks for it."""
    accounting = getattr(request, "param", "without accounting") == "with accounting"
    require("sbatch", "munged", *(["slurmdbd", "mariadbd"] if accounting else []))
    folder = tmp_path / "cluster"
    environment = {**os.environ, "GPUS": "2", "DBD": str(int(accounting))}
    subprocess.run([CLUSTER, "up", folder], check=True, env=environment, stdout=subprocess.DEVNULL, timeout=120)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    yield folder
    subprocess.run([CLUSTER, "down", folder], check=True, env=environment, timeout=120)


QUICK = """
import asyncio
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

async def sleep(self):
    await asyncio.sleep(1)

RemoteExecutor.sleep = sleep
from snakemake.cli import main
main()
"""
"""Snakemake that asks for the state of jobs every second: the plugin waits ten more each time that none has ended."""


class OnCluster(Checkout):
    """A checkout whose jobs are SLURM's."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", QUICK, "--profile", "slurm", *arguments]


@pytest.fixture
def checkout(cluster: Path, tmp_path: Path) -> Checkout:
    """A checkout whose SLURM profile asks for the state of jobs sooner than a real cluster would like."""
    (tmp_path / "checkout").mkdir()
    checkout = OnCluster(tmp_path / "checkout", only="puma.table1")
    profile = checkout.file("slurm/config.yaml")
    profile.write_text(profile.read_text().replace("checks: 10", "checks: 2"))
    return checkout


def running_job(word: str) -> str | None:
    """The id of a running SLURM job whose comment, which names rule and stage, has ``word`` in it."""
    listing = subprocess.run(["squeue", "-h", "-t", "R", "-o", "%i %k"], capture_output=True, text=True, check=True)
    return next((line.split()[0] for line in listing.stdout.splitlines() if word in line), None)


def time_limits(word: str) -> list[str]:
    """The time limits of all jobs, past ones too, whose comment has ``word`` in it."""
    jobs = subprocess.run(["scontrol", "--oneliner", "show", "job"], capture_output=True, text=True, check=True)
    return sorted(
        limit for line in jobs.stdout.splitlines() if word in line for limit in re.findall(r"TimeLimit=(\S+)", line)
    )


def trains(checkout: Checkout, stage: Path) -> bool:
    """Whether a process of the checkout is in the loop that trains a model, where it heeds signals."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text(errors="replace").split("\0")
            ours = words[1:4] == ["-m", "robustprune", "run"] and (process / "cwd").resolve() == checkout.folder
            if ours and any(stage.name in word for word in words) and remembers_signals(int(process.name)):
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    return False


def wait_for_training(checkout: Checkout, snakemake: "subprocess.Popen[bytes]", models: str) -> tuple[str, Path]:
    """(SLURM job, stage directory) of a model in training."""
    while snakemake.poll() is None:
        for stage in checkout.folder.glob(f"results/digits/models/{models}"):
            job = running_job(stage.name) if trains(checkout, stage) else None
            if job is not None:
                return job, stage
        time.sleep(0.2)
    raise AssertionError(f"it ended before {models} was in training: {checkout.file(LOG).read_text()}")


def stop_in_training(
    checkout: Checkout, snakemake: "subprocess.Popen[bytes]", models: str, *how: str
) -> tuple[Path, str]:
    """Have SLURM stop a job that trains a model; (stage directory, what SLURM knows of the job)."""
    job, stage = wait_for_training(checkout, snakemake, models)
    known = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout
    subprocess.run(["scancel", *how, job], check=True)
    return stage, known


@pytest.mark.timeout(1800)
def test_the_table_is_made_although_jobs_are_stopped(checkout: Checkout) -> None:
    """One that SLURM signals, as before its time limit, and one that is cancelled save their states; retries go on."""
    long = {"trades": {"epochs": 40, "validate_every": 0}}
    checkout.configure({"training": long, "execution": {"checkpoint_seconds": 100_000}})
    log = checkout.file(LOG)
    with log.open("w") as output:
        process = subprocess.Popen(
            checkout.command(TABLE),
            cwd=checkout.folder,
            env=checkout.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        signalled, known = stop_in_training(checkout, process, "trades-*", "--signal=USR1")
        cancelled, _ = stop_in_training(checkout, process, "puma-trades-*")
        limits = time_limits(signalled.name)  # before SLURM forgets its first job, ten minutes after that ended
        assert process.wait(timeout=1200) == 0, log.read_text()
    assert "gres/gpu=1" in known or "gpu:1" in known
    for stage in (signalled, cancelled):
        assert re.search(r"going on from [1-9]\d* of 600 steps", (stage / "job.log").read_text())
    assert limits == time_limits(cancelled.name) == ["00:30:00", "01:00:00"]
    assert pd.read_csv(checkout.file(TABLE))["method"].tolist() == ["TRADES on everything", "PUMA"]


def test_a_pool_is_scored_in_parts(checkout: Checkout) -> None:
    """Two parts and the job that gathers them; what they read is made beforehand, without SLURM."""
    overrides: dict[str, Any] = {"execution": {"part_rows": 256, "batch_size": 8}}
    checkout.configure(overrides)
    plan = tiny_plan(checkout.file("results"), overrides)
    score = stage_of(plan, "scores", "generated")
    run_upstream(plan, score)
    stage = plan.directory(score)
    checkout.snakemake(str(plan.record(score).relative_to(checkout.folder)))
    assert "going on from 300 of 300 images" in (stage / "job.log").read_text()
    assert open_store(stage / "scores.zarr").rows == 300
    jobs = subprocess.run(["scontrol", "--oneliner", "show", "job"], capture_output=True, text=True, check=True).stdout
    assert jobs.count("JobState=COMPLETED") == 3


@pytest.mark.parametrize("cluster", ["with accounting"], indirect=True)
def test_jobs_are_followed_on_a_cluster_with_accounting(checkout: Checkout) -> None:
    target = str(next(path for path in planned_records(checkout) if "digits-train" in path))
    done = checkout.snakemake("--slurm-status-command", "sacct", "--verbose", target)
    assert "command=sacct" in done.stdout
    assert checkout.file(target).is_file()
    listing = subprocess.run(
        ["sacct", "-n", "-X", "-o", "State,AllocTRES%60"], capture_output=True, text=True, check=True
    )
    assert "COMPLETED" in listing.stdout
    assert "gres/gpu" not in listing.stdout  # bringing images in needs none


def planned_records(checkout: Checkout) -> list[str]:
    """The records that a dry run names as outputs."""
    output = checkout.snakemake("-n", TABLE).stdout
    words = output.replace(",", " ").split()
    return [word for word in words if word.startswith("results/") and word.endswith("record.json")]
