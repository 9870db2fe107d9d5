"""The digits default reduced to its smallest, for tests that run the real thing."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import yaml

from robustprune.core.execution import Execution
from robustprune.core.job import run_stage
from robustprune.core.stage import Stage
from robustprune.core.yaml_files import merge
from robustprune.experiments.papers import load_experiments, load_figures
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.training.recipes.base import RecipeName

Spec = TypeVar("Spec", bound=Stage)

TABLE_1 = {name: table for name, table in load_experiments().items() if name == "puma.table1"}

SCALE: dict[str, Any] = {"epochs": 2, "epoch_images": 960, "batch_size": 64}
TINY: dict[str, Any] = {
    "preset": "digits",
    "seeds": [0],
    "synthetic": {
        "count": 300,
        "generator": {"base_channels": 8, "blocks": 1, "steps": 60, "batch_size": 32},
        "sampler": {"steps": 4},
    },
    "training": {
        "standard": {**SCALE, "synthetic_fraction": 0},
        "pgd_at": {**SCALE, "synthetic_fraction": 0, "attack_steps": 2},
        "trades": {**SCALE, "attack_steps": 2},
        "rs_fgsm": {"epochs": 2},
    },
    "evaluation": {"images": 40, "cw": {"steps": 5}, "autoattack_images": 10},
}


def recipe_table(*recipes: RecipeName) -> dict[str, Table]:
    """A table with a row for each of the recipes, trained on everything."""
    rows = tuple(Row(method=recipe, recipe=recipe) for recipe in recipes)
    return {"tiny.recipes": Table(title="recipes", target="recipes.csv", rows=rows)}


def tiny_plan(results: Path, overrides: dict[str, Any] | None = None, tables: dict[str, Table] | None = None) -> Plan:
    """The tiny plan of PUMA's Table 1, or of other tables, with its specs written below ``results``."""
    plan = make_plan(load_config(merge(TINY, overrides or {})), tables or TABLE_1, results=results)
    plan.write_specs()
    return plan


SELECTED: dict[str, Any] = {
    "synthetic": {"source": "selection:best"},
    "selections": {"best": {"of": "generate", "keep": "1/3"}},
    "training": {"standard": {"epochs": 6}},
}


@functools.cache
def all_tables(preset: str) -> Plan:
    return make_plan(load_config({"preset": preset}), load_experiments())


@functools.cache
def all_figures(preset: str) -> Plan:
    return make_plan(load_config({"preset": preset}), {}, load_figures())


def plan_of_quality(results: Path) -> Plan:
    """A plan of the stage that judges a third of the tiny plan's generated images, a selection, its specs written."""
    plan = make_plan(load_config(merge(TINY, SELECTED)), {}, results=results, quality=True)
    plan.write_specs()
    return plan


FOUR_EPOCHS = {"epochs": 4, "epoch_images": 512, "synthetic_fraction": 0}

SCORED: dict[str, Any] = merge(
    TINY,
    {
        "seeds": [0, 1],
        "synthetic": {"source": "none"},
        "training": {"trades": FOUR_EPOCHS, "standard": {**FOUR_EPOCHS, "batch_size": 64}},
        "dynamics": {"uncertainty": {"window": 3}, "recording": {"attack": {"steps": 2, "step": 0.5}}},
    },
)
"""The tiny configuration on real digits alone, which needs no generator, with epochs enough for a window of three."""


def table_of_scores(*names: str) -> dict[str, Table]:
    rows = tuple(Row.model_validate({"method": name, "strategy": "puma", "score": name}) for name in names)
    return {"scores": Table(title="scores", target="test/scores.csv", rows=rows)}


def plan_of_scores(results: Path, *names: str, overrides: dict[str, Any] | None = None) -> Plan:
    """A plan of a table with a row for each score, its specs written."""
    plan = make_plan(load_config(merge(SCORED, overrides or {})), table_of_scores(*names), results=results)
    plan.write_specs()
    return plan


def specs_of(plan: Plan, cls: type[Spec]) -> list[Spec]:
    """The planned stages of a class."""
    return [spec for spec in plan.stages.values() if isinstance(spec, cls)]


def spec_of(plan: Plan, stage: str, cls: type[Spec]) -> Spec:
    """The spec of a planned stage, which must be of that class."""
    spec = plan.stages[stage]
    assert isinstance(spec, cls)
    return spec


def plan_rows(
    *rows: Row, overrides: dict[str, Any] | None = None, results: Path = Path("results"), **keys: Any
) -> Plan:
    """The plan of a table with these rows; ``keys`` are further ones of the table."""
    table = Table(title="t", target="t.csv", rows=rows, **keys)
    return make_plan(load_config(overrides or {}), {"t.t": table}, results=results)


def write_experiments(folder: Path, **content: Any) -> None:
    """Write ``mine.yaml``, the experiments of a paper of that name."""
    (folder / "mine.yaml").write_text(yaml.safe_dump({"paper": "mine", **content}))


def stage_of(plan: Plan, kind: str, word: str = "") -> str:
    """The id of the first planned stage of a kind whose id has ``word`` in it."""
    return next(stage for stage, spec in plan.stages.items() if spec.kind == kind and word in stage)


KEPT_KINDS = ("pools", "generators")


@functools.cache
def kept_stages() -> Path:
    """A folder of this process for stages that many tests need; their ids tell all that decides what is in them."""
    folder = Path(tempfile.mkdtemp(prefix="stages-of-tests-"))
    atexit.register(shutil.rmtree, folder)
    return folder


def run_upstream(plan: Plan, stage_id: str) -> None:
    """Do everything that a stage reads, in this process, on one thread; pools and generators once for all tests."""
    for needed in plan.needed_for([stage_id])[:-1]:
        stage, kept = plan.directory(needed), kept_stages() / needed
        if kept.exists() and not plan.record(needed).exists():
            shutil.copytree(kept, stage, dirs_exist_ok=True)
        run_stage(stage / "spec.json", Execution(device="cpu"))
        if plan.stages[needed].kind in KEPT_KINDS and not kept.exists():
            shutil.copytree(stage, kept, ignore=shutil.ignore_patterns(".lock"))
