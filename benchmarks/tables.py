"""How long all tables take to plan, and to make of results that are there: ``python benchmarks/tables.py``.

The results are invented (tests/made_up.py), since what a table costs does not depend on what is in it. Everything is at
the preset ``cifar10``, which is the papers' scale, in a copy of the workflow that goes afterwards.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from robustprune.core.paths import RECORD_FILE
from robustprune.experiments.papers import load_experiments
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan

ROOT = Path(__file__).resolve().parents[1]
PRESET = "cifar10"

sys.path.insert(0, str(ROOT / "tests"))
from made_up import make_up_results  # noqa: E402


def main() -> None:
    """Print what planning takes, then making the tables with Snakemake on two cores."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder)
        for name in ("Snakefile", "workflow", "profiles", "config.yaml"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, checkout / name)
        (checkout / "config.yaml").write_text(f"preset: {PRESET}\n")
        tables = load_experiments()
        targets = [f"results/{table.target}" for table in tables.values()]
        timed("a plan of all tables", ["-m", "robustprune", "plan"], checkout)
        plan = make_plan(load_config({"preset": PRESET}), tables, results=checkout / "results")
        print(f"{make_up_results(plan)} results made up of {len(plan.stages)} stages", flush=True)
        mark_the_rest_as_made(plan)
        making = ["-m", "snakemake", "--cores", "2", *targets]
        timed(f"{len(targets)} tables, by Snakemake on two cores", making, checkout)
        missing = [target for target in targets if not (checkout / target).exists()]
        if missing:
            sys.exit(f"not made: {missing}")


def mark_the_rest_as_made(plan: Plan) -> None:
    """Empty records for stages that no table reads itself: Snakemake only asks whether they are there."""
    for stage, spec in plan.stages.items():
        if spec.kind != "tables" and not plan.directory(stage).exists():
            plan.directory(stage).mkdir(parents=True)
            (plan.directory(stage) / RECORD_FILE).touch()


def timed(name: str, arguments: list[str], directory: Path) -> None:
    """Run Python and print seconds by the clock."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, *arguments], cwd=directory, capture_output=True, text=True, check=False)
    print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


if __name__ == "__main__":
    main()
