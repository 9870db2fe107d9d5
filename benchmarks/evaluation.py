"""What evaluations cost beside the attacks called directly: ``python benchmarks/evaluation.py {autoattack,pgd}``.

What it printed is in docs/benchmarks.md. The network is the public MNIST checkpoint of Wong et al. (``fgsm.pth``),
the images are class-balanced test images. Sides run one after the other, each process on one thread, and
are timed by the processor time of their processes, so that other jobs on the machine disturb little.
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pyautoattack import AutoAttack

from robustprune.attacks.inputs import inputs_at
from robustprune.core.execution import Execution
from robustprune.core.files import sha256
from robustprune.core.job import Job, run_stage
from robustprune.evaluation.attack import ATTACKS
from robustprune.evaluation.robustness import EvaluationStage, Target
from robustprune.evaluation.summary import read_summaries
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan

CHUNK = ATTACKS.facts("autoattack")["together"]  # images attacked at once
CPU = Execution(device="cpu")
IMAGES = {"autoattack": 500, "pgd": 10_000}
REPORTED = 88.77  # percent of the 10,000 test images under PGD-50-10, by the authors


class Cost(NamedTuple):
    """What a side took, and how many images it left right."""

    cpu: float
    wall: float
    right: int


def main() -> None:
    """Print the figures of one comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=IMAGES)
    parser.add_argument("--images", type=int, help="of autoattack at least 500, a chunk of 250 for each of two shards")
    parser.add_argument("--epsilon", default="0.3", help="of the attacks, L-infinity")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    images = options.images or IMAGES[options.what]
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "autoattack":
            compare_autoattack(Path(folder), options.data, images, options.epsilon)
        else:
            measure_pgd(Path(folder), options.data, images, options.epsilon)


def compare_autoattack(folder: Path, data: Path, images: int, epsilon: str) -> None:
    """The package called directly, our stage in one job, and in two jobs at once."""
    plan, stage = prepared(folder / "one", data, "autoattack", images, epsilon)
    job, spec = Job(plan.directory(stage), CPU, threads=1, live=False), plan.stages[stage]
    assert isinstance(spec, EvaluationStage)
    direct = timed(lambda: directly(job, spec))
    ours = timed(lambda: run_and_count(plan, stage, "autoattack"))
    plan, stage = prepared(folder / "two", data, "autoattack", images, epsilon)
    shards = in_shards(plan, stage, images)
    tell("pyautoattack called directly", direct, direct, images)
    tell("our runner, one job", ours, direct, images)
    tell("our runner, two shards at once", shards, direct, images)


def measure_pgd(folder: Path, data: Path, images: int, epsilon: str) -> None:
    """PGD-50-10 beside the number that the checkpoint's authors report."""
    plan, stage = prepared(folder, data, "pgd_50_10", images, epsilon)
    cost = timed(lambda: run_and_count(plan, stage, "pgd_50_10"))
    share = 100 * cost.right / images
    print(f"PGD-50-10: {share:.2f} % of {images} images, reported {REPORTED} %; {cost.cpu:.0f} s of processor time")


def prepared(results: Path, data: Path, attack: str, images: int, epsilon: str) -> tuple[Plan, str]:
    """A plan in which an evaluation is all that is missing, and its id."""
    path = data / "models" / "fast_adversarial_mnist" / "fgsm.pth"
    settings: dict[str, Any] = {"attacks": [attack], "images": images, "pgd_50_10": {"step": "1/30"}}
    overrides = {
        "preset": "mnist",
        "threat": {"norm": "Linf", "epsilon": epsilon},
        "data": {"source": f"idx:{data / 'mnist' / 'MNIST' / 'raw'}"},
        "checkpoints": {"fgsm": {"path": str(path), "sha256": sha256(path), "architecture": "fast_cnn"}},
        "evaluation": settings,
    }
    table = Table(title="fgsm", target="fgsm.csv", rows=(Row(method="Wong et al.", checkpoint="fgsm"),))
    plan = make_plan(load_config(overrides), {"benchmark": table}, results=results)
    plan.write_specs()
    *upstream, evaluation, _ = plan.needed_for(plan.targets.values())
    for stage in upstream:
        run_stage(plan.directory(stage), CPU)
    return plan, evaluation


def directly(job: Job, spec: EvaluationStage) -> int:
    """The package's own loop over the same images, in its batches of 250."""
    target = Target.opened(job, spec)
    images, labels = inputs_at(target.pool, target.rows, job.device)
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    threat = spec.threat
    assert threat is not None
    attack = AutoAttack(target.model, eps=float(threat.epsilon), norm=threat.norm, seed=0, version="standard")
    _, predicted = attack.run_standard_evaluation(images, labels)
    return int((predicted == labels).sum())


def in_shards(plan: Plan, stage: str, images: int) -> Cost:
    """Two processes, each with half of the chunks; counted are the longer one and the job that ends the stage."""
    middle = images // 2 // CHUNK * CHUNK
    if not middle:
        sys.exit(f"--images = {images}: two shards need at least {2 * ATTACKS.facts('autoattack')['together']}")
    command = [sys.executable, "-m", "robustprune", "run", str(plan.directory(stage)), "--device", "cpu"]
    began = time.monotonic()
    running = [
        subprocess.Popen([*command, "--rows", f"{start}:{stop}"], stderr=subprocess.DEVNULL)
        for start, stop in ((0, middle), (middle, images))
    ]
    longest = max(cpu_of(process) for process in running)
    last = cpu_of(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    return Cost(longest + last, time.monotonic() - began, right_in(plan, stage, "autoattack"))


def cpu_of(process: "subprocess.Popen[bytes]") -> float:
    """Wait for a process; seconds of processor time it took, its start among them."""
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_utime + usage.ru_stime


def run_and_count(plan: Plan, stage: str, attack: str) -> int:
    """Our stage in this process, from its spec to its record."""
    run_stage(plan.directory(stage), CPU)
    return right_in(plan, stage, attack)


def right_in(plan: Plan, stage: str, attack: str) -> int:
    """Images that an evaluation left right."""
    found = read_summaries([plan.directory(stage)])[attack]
    return round(float(found["accuracy"]) * int(found["images"]))


def timed(side: Callable[[], int]) -> Cost:
    """Run a side in this process."""
    torch.set_num_threads(1)
    cpu, wall = time.process_time(), time.monotonic()
    right = side()
    return Cost(time.process_time() - cpu, time.monotonic() - wall, right)


def tell(name: str, cost: Cost, base: Cost, images: int) -> None:
    """One line."""
    print(
        f"{name:36} {cost.cpu:7.1f} s of processor time, {cost.wall:7.1f} s by the clock, ratios "
        f"{cost.cpu / base.cpu:.3f} {cost.wall / base.wall:.3f}, right {cost.right} of {images}"
    )


if __name__ == "__main__":
    main()
