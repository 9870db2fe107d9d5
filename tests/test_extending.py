"""What docs/extending.md promises: a choice is a file with a decorator, and its name is known without being listed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from checkout import ROOT

RADIUS_RULE = '''
import numpy as np
from robustprune.pruning.radius import radius_rule

DEFINITION = {"pruning.half_margin": 1}


@radius_rule("half_margin", reads=("margin",))
def half_margin(measured, settings):
    """Half the margin."""
    return np.clip(measured.margin / 2, 0, float(settings.epsilon))
'''

QUANTITY_IMPORTS = """
from robustprune.experiments.tables.quantities import over_runs
from robustprune.experiments.tables.quantity import quantity

"""

ATTACK = '''
from robustprune.evaluation.attack import attack

DEFINITION = {"evaluation.nothing": 1}


@attack("nothing", words="an attack that does nothing")
def measure_nothing(target):
    """Return the pass that measures nothing."""
    raise NotImplementedError
'''

PLAN = """
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.planning.config import load_config
from robustprune.planning.plan import make_plan

config = load_config({
    "architecture": "linear", "dynamics": {"last_confidence": {"epochs": 2}}, "evaluation": {"attacks": ["nothing"]},
})
row = Row(method="theirs", strategy="prune_easy", score="last_confidence", radius="half_margin")
table = Table(target="table.csv", title="Theirs", quantities=("images_kept", "steps"), rows=(row,))
plan = make_plan(config, {"theirs": table})
assert not plan.problems, plan.problems
for stage in plan.stages.values():
    print(stage.kind, *stage.definitions)
"""


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with a file more for each choice."""
    copy = tmp_path_factory.mktemp("checkout") / "workflow"
    shutil.copytree(ROOT / "workflow", copy, ignore=shutil.ignore_patterns("__pycache__"))
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL)
    (metric,) = (example for example in examples if "@metric" in example)
    (architecture,) = (example for example in examples if "@architecture" in example)
    (column,) = (example for example in examples if "@quantity" in example)
    package = copy / "robustprune"
    (package / "scores/metrics/last_confidence.py").write_text(metric)
    (package / "experiments/tables/steps.py").write_text(QUANTITY_IMPORTS + column)
    (package / "pruning/half_margin.py").write_text(RADIUS_RULE)
    (package / "networks/linear.py").write_text(architecture)
    (package / "evaluation/nothing.py").write_text(ATTACK)
    return copy


def test_new_files_are_planned_and_decide_the_ids_of_what_runs_them(workflow: Path) -> None:
    command = [sys.executable, "-c", PLAN]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(workflow)}, cwd=workflow.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    decided: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        kind, *names = line.split()
        decided.setdefault(kind, set()).update(names)
    assert "scores.metrics.last_confidence" in decided["scores"]
    assert "pruning.half_margin" in decided["manifests"]
    assert "models.linear" in decided["models"]
    assert all("scores.metrics.last_confidence" not in decided[kind] for kind in ("models", "manifests", "evaluations"))


def test_a_metric_computes_what_its_file_says(workflow: Path) -> None:
    code = """
import numpy as np
from robustprune.scores.metric import METRICS, Recorded

values = np.array([[0.5, 0.1], [0.25, 0.3], [0.75, 0.5]], np.float16)
found = METRICS["last_confidence"](epochs=2).score([Recorded(values, np.array([1, 2, 3]))])
np.testing.assert_allclose(found, [0.5, 0.4], rtol=1e-3)
"""
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(workflow)}, check=True)
