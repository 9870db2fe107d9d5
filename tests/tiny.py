"""The digits default reduced to its smallest, for tests that run the real thing."""

from pathlib import Path
from typing import Any

from robustprune.config import load_config, merge
from robustprune.execution import Execution
from robustprune.experiments import load_experiments
from robustprune.job import run_stage
from robustprune.plan import Plan, make_plan

TABLE_1 = {name: table for name, table in load_experiments().items() if name == "puma.table1"}

TINY: dict[str, Any] = {
    "preset": "digits",
    "seeds": [0],
    "synthetic": {
        "count": 300,
        "generator": {"base_channels": 8, "blocks": 1, "steps": 60, "batch_size": 32},
        "sampler": {"steps": 4},
    },
    "training": {"trades": {"epochs": 2, "epoch_images": 960, "batch_size": 64, "attack_steps": 2}},
    "evaluation": {"images": 40, "pgd_steps": 5, "autoattack_images": 10},
}


def tiny_plan(results: Path, overrides: dict[str, Any] | None = None) -> Plan:
    """The tiny plan of PUMA's Table 1 with its specs written below ``results``."""
    plan = make_plan(load_config(merge(TINY, overrides or {})), TABLE_1, results=results)
    plan.write_specs()
    return plan


def stage_of(plan: Plan, kind: str, word: str = "") -> str:
    """The id of the first planned stage of a kind whose id has ``word`` in it."""
    return next(stage for stage, spec in plan.stages.items() if spec.kind == kind and word in stage)


def run_upstream(plan: Plan, stage_id: str) -> None:
    """Do everything that a stage reads, in this process, on one thread."""
    for needed in plan.needed_for([stage_id])[:-1]:
        run_stage(plan.directory(needed) / "spec.json", Execution(device="cpu"))
