"""Every table of every paper: dry runs at every preset, pages from made-up results, and, nightly, the real thing."""

import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from checkout import Checkout
from made_up import make_up_results
from robustprune.core.execution import Execution
from robustprune.core.job import run_stage
from robustprune.core.paths import EXPERIMENTS
from robustprune.core.yaml_files import merge
from robustprune.experiments.papers import load_experiments, load_figures
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from tiny import TINY

pytestmark = pytest.mark.slow

SMALLEST: dict[str, Any] = merge(
    TINY,
    {
        "seeds": [0, 1],
        "threat": {"epsilon": 0.3},  # where few images are left for AutoAttack's slow attacks
        "other_threat": {"epsilon": 1, "step_size": 0.2},
        "subsets": {"reference": {"count": 150}, "tested": {"count": 200}},
        "training": {
            "standard": {"epochs": 6, "epoch_images": 320, "synthetic_fraction": 0.7, "validation_images": 50},
            "trades": {"epochs": 6, "epoch_images": 320, "validation_images": 50},
            "rs_fgsm": {"epochs": 5, "validation_images": 50},
        },
        "dynamics": {"uncertainty": {"window": 3}, "recording": {"attack": {"steps": 2, "step": 0.5}}},
        "extrapolation": {
            "source_images": 200,
            "neighbours": {"k": [3, 5], "metric": ["cosine", "euclidean"], "held_out": 0.2},
        },
        "margins": {"boundary_search": {"step_size": 0.02, "max_steps": 40}},
        "layout": {"images": None},
        "evaluation": {"autoattack_images": 1},
    },
)
"""Every table at the smallest scale at which it can be made."""


def plan_of(overrides: dict[str, Any], results: Path) -> Plan:
    plan = make_plan(load_config(overrides), load_experiments(), results=results)
    assert plan.problems == {}
    return plan


@pytest.mark.parametrize("preset", ["digits", "mnist", "cifar10"])
def test_every_target_passes_a_dry_run_at_every_preset(preset: str, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.file("config.yaml").write_text(f"preset: {preset}\nseeds: [0]\n")
    tables, figures = load_experiments().values(), load_figures().values()
    jobs = checkout.jobs(*(f"results/{entry.target}" for entry in (*tables, *figures)))
    assert jobs["table"] == jobs["target"] == len(tables)
    assert jobs["figure"] == jobs["figure_target"] == len(figures)
    assert jobs["layout"] == 2 + 3  # of tables and of figures
    assert jobs["model"] >= 100


def make(plan: Plan, stages: Iterable[str]) -> None:
    """Do stages in this process, on one thread."""
    plan.write_specs()
    for stage in stages:
        run_stage(plan.directory(stage) / "spec.json", Execution(device="cpu"))


def test_all_tables_are_made_of_results_that_are_there(tmp_path: Path) -> None:
    plan = plan_of({"preset": "cifar10"}, tmp_path)
    assert make_up_results(plan) > 700
    make(plan, plan.targets.values())
    for stage in plan.targets.values():
        directory = plan.directory(stage)
        assert len(pd.read_csv(directory / "table.csv")) >= 2
        assert (directory / "table.md").read_text().startswith("# ")
        assert r"\begin{tabular}" in (directory / "table.tex").read_text()


ROW = [
    {"method": "Keep the easy ones", "strategy": "prune_difficult", "score": "loss"},
]
"""The three lines of docs/tables.md."""


def test_a_row_of_three_lines_gets_its_number_and_nothing_else_is_made_anew(tmp_path: Path) -> None:
    folder = shutil.copytree(EXPERIMENTS, tmp_path / "experiments")
    overrides = merge(SMALLEST, {"seeds": [0], "evaluation": {"attacks": ["clean"]}})
    target = str(tmp_path / "table1.csv")

    def planned() -> Plan:
        tables = {name: table for name, table in load_experiments(folder).items() if name == "puma.table1"}
        return make_plan(load_config(overrides), tables, results=tmp_path)

    before = planned()
    make(before, before.needed_for(before.targets.values()))
    path = folder / "puma.yaml"
    lines = path.read_text().splitlines(keepends=True)
    place = next(number for number, line in enumerate(lines) if "printed: SOTA method using PUMA" in line) + 1
    new = [f"      {'-' if not number else ' '} {key}: {value}\n" for number, (key, value) in enumerate(ROW[0].items())]
    assert len(new) == 3
    path.write_text("".join([*lines[:place], *new, *lines[place:]]))
    after = planned()
    made = Counter(after.stages[stage].kind for stage in set(after.stages) - set(before.stages))
    assert made == {"scores": 2, "manifests": 1, "models": 1, "evaluations": 1, "tables": 1}
    make(after, after.needed_for([after.targets[target]]))
    table = pd.read_csv(after.directory(after.targets[target]) / "table.csv").set_index("method")
    assert list(table.index) == ["TRADES on everything", "PUMA", "Keep the easy ones"]
    assert table["accuracy_mean"].between(0, 100).all()
    assert np.isfinite(table["accuracy_change_mean"].iloc[2])


def test_the_row_of_the_page_is_the_one_that_is_tested() -> None:
    page = (Path(__file__).parents[1] / "docs" / "tables.md").read_text()
    block = page.split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(block) == ROW


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_every_table_is_really_made_at_the_smallest_scale(tmp_path: Path) -> None:
    plan = plan_of(SMALLEST, tmp_path)
    make(plan, plan.needed_for(plan.targets.values()))
    for target, stage in plan.targets.items():
        path = plan.directory(stage) / "table.csv"
        table = pd.read_csv(path, keep_default_na=False, na_values=[""]).set_index("method")  # "n/a" is a setting
        told = table.filter(regex="accuracy_mean|density_mean|gain_mean|^k$|^configured")
        assert not told.empty, target
        assert told.notna().all(axis=None), target
        if "p_value" in table:  # none where neither sample spreads, as two runs on one image may not
            assert table["p_value"].dropna().between(0, 1).all()
