"""Numbers that may only move together with a DEFINITION: a tiny deterministic run, from pools to evaluation.

Each golden keeps the definitions it was made under. When a number moves and no definition of its stage did, the test
fails; when a definition was raised, the test asks for new goldens: ``python tests/test_goldens.py``.
"""

import json
import platform
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from robustprune.core.execution import Execution
from robustprune.core.job import run_stage
from robustprune.core.record import read_record
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.images.pool import open_pool
from robustprune.networks.weights import load_weights
from robustprune.planning.plan import Plan
from robustprune.pruning.prune import ManifestStage
from robustprune.scores.store.reader import open_store
from tiny import plan_of_quality, recipe_table, tiny_plan

GOLDENS = Path(__file__).parent / "goldens.json"
TOLERANCE = 2e-3  # relative; processors round differently, algorithms differ by more
COUNT_TOLERANCE = 2  # images that rounding may tip over
EXACT = {"kept", "label_sum"}  # rounding may decide which images are kept, but neither how many nor of which class

LEARNED: dict[str, Any] = {
    "threat": {"epsilon": 0.05},
    "synthetic": {"source": "none"},
    "training": {"standard": {"epochs": 6}, "trades": {"synthetic_fraction": 0}},
    "evaluation": {"images": 500, "autoattack_images": 100},
}


def plan_of_learned(results: Path) -> Plan:
    """A plan of a network that has learned, and of radii by its margins: where no count is near none or all."""
    network = Row(method="learned", recipe="standard")
    pruned = Row(method="pruned", strategy="puma", radius="margin", margin_model=network)
    table = Table(title="learned", target="learned.csv", rows=(network, pruned))
    return tiny_plan(results, LEARNED, {"tiny.learned": table})


def tolerance_of(name: str) -> dict[str, Any]:
    if name in EXACT:
        return {"abs": 0}
    return {"abs": COUNT_TOLERANCE} if name.endswith("count") else {"rel": TOLERANCE}


def numbers_of(plan: Plan, stage_id: str) -> dict[str, float]:
    """A few numbers that tell whether a stage computes what it did."""
    directory, spec = plan.directory(stage_id), plan.stages[stage_id]
    kind = spec.kind
    if kind == "pools":
        pool = open_pool(directory)
        return {"pixel_mean": float(pool.images[:].mean()), "label_sum": float(pool.labels.sum())}
    if kind in ("generators", "models"):
        history = pd.read_parquet(directory / "history.parquet")
        weights = load_weights(directory / "weights.safetensors")
        size = float(sum(value.double().square().sum() for value in weights.values()))
        return {"loss": float(history["loss"].iloc[-1]), "squared_weights": size}
    if kind == "scores":
        store = open_store(directory / "scores.zarr")
        values = store.read(store.attributes["score"]["column"])
        finite = values[np.isfinite(values)]
        return {"mean_size": float(np.abs(finite).mean()), "negative_count": float((values < 0).sum())}
    if kind == "qualities":
        found = read_record(directory).facts
        counts = {f"{name}_count": found[name] * found["images"] for name in ("agreement", "near")}
        return {**counts, **{name: found[name] for name in ("frechet", "frechet_of_real", "nearest")}}
    if isinstance(spec, ManifestStage):
        rows = pd.read_parquet(directory / "manifest.parquet")
        below = rows["epsilon"][rows["epsilon"] < 0.99 * float(spec.radius.epsilon)]
        means = {
            "mean_radius": float(rows["epsilon"].abs().mean()),
            "mean_below": float(below.sum() / max(1, len(below))),
        }
        return {"kept": float(len(rows)), "below_count": float(len(below)), **means}
    summary = json.loads((directory / "summary.json").read_text())
    return {f"{attack}_count": found["accuracy"] * found["images"] for attack, found in summary.items()}


def measure(folder: Path) -> dict[str, dict[str, Any]]:
    """Run the tiny plan, a model by each other recipe, and what selects images and judges them, in this process.

    Returns:
        each stage's numbers and definitions, by kind and position.
    """
    torch.set_num_threads(1)
    plan = tiny_plan(folder)
    recipes = tiny_plan(folder, tables=recipe_table("standard", "pgd_at", "rs_fgsm"))
    stages = plan.needed_for(plan.targets.values())[:-1]
    stages += [stage for stage, spec in recipes.stages.items() if spec.kind == "models"]
    judged = plan_of_quality(folder)
    stages += [stage for stage in judged.needed_for(judged.targets.values()) if stage not in stages]
    learned = plan_of_learned(folder)
    (pruned,) = (stage for stage, spec in learned.stages.items() if spec.kind == "manifests")
    evaluated = [stage for stage, spec in learned.stages.items() if spec.kind == "evaluations"][:2]  # the first row's
    stages += [stage for stage in learned.needed_for([pruned, *evaluated]) if stage not in stages]
    plan = replace(plan, stages={**plan.stages, **recipes.stages, **judged.stages, **learned.stages})
    measured: dict[str, dict[str, Any]] = {}
    for position, stage_id in enumerate(stages):
        spec = plan.stages[stage_id]
        run_stage(plan.directory(stage_id) / "spec.json", Execution(device="cpu"))
        numbers = numbers_of(plan, stage_id)
        measured[f"{position:02d} {spec.kind} {spec.slug}"] = {"definitions": spec.definitions, "numbers": numbers}
    return measured


@pytest.mark.slow
def test_numbers_move_only_with_a_definition(tmp_path: Path) -> None:
    goldens = json.loads(GOLDENS.read_text())["stages"]
    measured = measure(tmp_path / "results")
    assert list(measured) == list(goldens)
    for stage, found in measured.items():
        assert found["definitions"] == goldens[stage]["definitions"], f"{stage}: write new goldens ({__doc__})"
        for name, value in found["numbers"].items():
            golden = goldens[stage]["numbers"][name]
            assert value == pytest.approx(golden, **tolerance_of(name)), f"{name} of {stage} moved; raise a DEFINITION"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        content = {
            "made_with": {"torch": torch.__version__, "python": sys.version.split()[0], "machine": platform.machine()},
            "stages": measure(Path(temporary) / "results"),
        }
    GOLDENS.write_text(json.dumps(content, indent=2) + "\n")
