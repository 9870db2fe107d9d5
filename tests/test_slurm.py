"""The whole digits default, at its smallest, through a real one-node SLURM with a pretend GPU."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from checkout import Checkout
from robustprune.store import open_store
from tiny import run_upstream, stage_of, tiny_plan

CLUSTER = Path(__file__).parent / "slurm" / "one-node-slurm.sh"
TABLE = "results/table1.csv"
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
    environment = {**os.environ, "GPUS": "1", "DBD": str(int(accounting))}
    subprocess.run([CLUSTER, "up", folder], check=True, env=environment, stdout=subprocess.DEVNULL, timeout=120)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    yield folder
    subprocess.run([CLUSTER, "down", folder], check=True, env=environment, timeout=120)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout whose SLURM profile asks for the state of jobs more often than a real cluster would like."""
    (tmp_path / "checkout").mkdir()
    checkout = Checkout(tmp_path / "checkout")
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


def wait_for_training(checkout: Checkout) -> tuple[str, Path]:
    """(SLURM job, stage directory) of a model in training, some seconds after it began."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for log in checkout.folder.glob("results/digits/models/trades-*/job.log"):
            job = running_job(log.parent.name)
            if job is not None and "training:" in log.read_text():
                return job, log.parent
        time.sleep(0.2)
    raise AssertionError("no model is in training within four minutes")


@pytest.mark.parametrize("signal", ["USR1", "cancelled"])
def test_the_table_is_made_although_a_job_is_stopped(signal: str, cluster: Path, checkout: Checkout) -> None:
    """A job that SLURM signals, as before its time limit, or that is cancelled, saves its state; its retry goes on."""
    long = {"trades": {"epochs": 150, "validate_every": 0}}
    checkout.configure({"training": long, "execution": {"checkpoint_seconds": 100_000}})
    log = checkout.file("snakemake.log")
    with log.open("w") as output:
        process = subprocess.Popen(
            checkout.command("--profile", "slurm", TABLE),
            cwd=checkout.folder,
            env={**checkout.environment, "PATH": os.environ["PATH"]},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        job, stage = wait_for_training(checkout)
        request = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout
        subprocess.run(["scancel", *(["--signal=USR1"] if signal == "USR1" else []), job], check=True)
        assert process.wait(timeout=600) == 0, log.read_text()
    assert "gres/gpu=1" in request or "gpu:1" in request
    assert re.search(r"going on from [1-9][\d,]* of 2,250 steps", (stage / "job.log").read_text())
    assert time_limits(stage.name) == ["00:30:00", "01:00:00"]
    assert pd.read_csv(checkout.file(TABLE))["method"].tolist() == ["TRADES on everything", "PUMA"]


def test_a_pool_is_scored_in_parts(cluster: Path, checkout: Checkout) -> None:
    """Two parts and the job that gathers them; what they read is made beforehand, without SLURM."""
    overrides: dict[str, Any] = {"execution": {"part_rows": 256, "batch_size": 8}}
    checkout.configure(overrides)
    checkout.environment["PATH"] = os.environ["PATH"]
    plan = tiny_plan(checkout.file("results"), overrides)
    score = stage_of(plan, "scores", "generated")
    run_upstream(plan, score)
    stage = plan.directory(score)
    checkout.snakemake("--profile", "slurm", str(plan.record(score).relative_to(checkout.folder)))
    assert "going on from 300 of 300 images" in (stage / "job.log").read_text()
    assert open_store(stage / "scores.zarr").rows == 300
    jobs = subprocess.run(["scontrol", "--oneliner", "show", "job"], capture_output=True, text=True, check=True).stdout
    assert jobs.count("JobState=COMPLETED") == 3


@pytest.mark.parametrize("cluster", ["with accounting"], indirect=True)
def test_jobs_are_followed_on_a_cluster_with_accounting(cluster: Path, checkout: Checkout) -> None:
    target = str(next(path for path in planned_records(checkout) if "digits-train" in path))
    checkout.environment["PATH"] = os.environ["PATH"]
    checkout.snakemake("--profile", "slurm", target)
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
