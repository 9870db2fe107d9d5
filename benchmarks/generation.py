"""How good the images are that two cores can make in 15 minutes: ``python benchmarks/generation.py --mnist FOLDER``.

A small EDM is trained on MNIST, draws images, and a classifier trained on the real images alone says what it sees in
them: the stages of ``results/quality.csv`` with the settings below, one after the other. Printed are the processor
time and the wall time of each, and what was found. With ``--results FOLDER`` they are kept, and a killed run goes on.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from robustprune.core.execution import Execution
from robustprune.core.job import run_stage
from robustprune.core.paths import RECORD_FILE
from robustprune.core.record import read_record
from robustprune.core.yaml_files import merge
from robustprune.planning.config import load_config
from robustprune.planning.plan import make_plan

GENERATOR: dict[str, Any] = {
    "base_channels": 32,
    "channel_multipliers": [1, 1],
    "patch": 2,
    "blocks": 1,
    "attention_resolutions": [7],
    "dropout": 0.0,
    "steps": 6000,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "ramp_images": 10_000,
    "schedule": "linear",
    "averaging_half_life_images": 20_000,
    "label_dropout": 0.1,
}
GUIDANCES = (1.0, 1.5, 2.0)
SETTINGS: dict[str, Any] = {
    "preset": "mnist",
    "seeds": [0],
    "synthetic": {"count": 1000, "generator": GENERATOR, "sampler": {"steps": 10}},
    "training": {"standard": {"epochs": 10}},
    "quality": {"images": 1000},
}
TOLD = ("images", "agreement", "judge_accuracy", "frechet", "frechet_of_real", "nearest", "nearest_held_out", "near")


def measure(mnist: Path, results: Path, threads: int, precision: str, guidance: float) -> dict[str, Any]:
    """Run the stages that are not there, print what each takes, and return what the last one found."""
    changes = {part: {"precision": precision} for part in ("generator", "sampler")}
    settings = merge(SETTINGS, {"synthetic": merge(changes, {"sampler": {"guidance": guidance}})})
    config = load_config({**settings, "data": {"source": f"torchvision:{mnist}"}})
    plan = make_plan(config, {}, results=results, quality=True)
    plan.write_specs()
    (target,) = plan.targets.values()
    for stage in plan.needed_for([target]):
        if (plan.directory(stage) / RECORD_FILE).is_file():
            continue
        began, processor = time.monotonic(), _processor_seconds()
        run_stage(plan.directory(stage) / "spec.json", Execution(device="cpu"), threads=threads)
        print(
            f"{plan.stages[stage].kind:11} {_processor_seconds() - processor:7.0f} s of processor, "
            f"{time.monotonic() - began:7.0f} s",
            flush=True,
        )
    return read_record(plan.directory(target)).facts


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", type=Path, required=True, help="folder with MNIST in torchvision's layout")
    parser.add_argument("--results", type=Path, help="folder of the stages; kept, so that a killed run goes on from it")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--precision", default="bfloat16", help="float32 where a CPU has no bfloat16 (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results = options.results or Path(temporary)
        for guidance in GUIDANCES:
            found = measure(options.mnist.absolute(), results, options.threads, options.precision, guidance)
            print(json.dumps({"guidance": guidance, **{name: round(found[name], 4) for name in TOLD}}), flush=True)


if __name__ == "__main__":
    main()
