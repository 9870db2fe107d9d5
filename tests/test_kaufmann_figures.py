"""Every figure of Kaufmann et al., really made at the smallest scale of the digits; pytest -m nightly."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustprune.core.execution import Execution
from robustprune.core.job import run_stage
from robustprune.core.paths import CAPTION_FILE, FIGURE_DATA_FILE, FIGURE_FILE
from robustprune.core.yaml_files import merge
from robustprune.experiments.papers import load_figures
from robustprune.planning.config import load_config
from robustprune.planning.plan import make_plan
from tiny import TINY

SMALLEST: dict[str, Any] = merge(
    TINY,
    {
        "threat": {"epsilon": 0.3},  # where few images are left for AutoAttack's slow attacks
        "training": {"rs_fgsm": {"epochs": 9, "validation_images": 50}},
        "layout": {"images": None},
        "evaluation": {"autoattack_images": 1},
        "clouds": {"points": 60, "test_points": 100, "width": 8, "steps_before": 10, "steps_after": 10, "trials": 2},
        "feature_model": {"fragile_features": 40, "training_points": 400, "test_points": 2000, "trials": 2},
    },
)
"""Figure 1 of the first version prunes up to the eighth epoch."""


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_every_figure_of_kaufmann_is_really_made(tmp_path: Path) -> None:
    figures = {name: figure for name, figure in load_figures().items() if name.startswith("kaufmann")}
    plan = make_plan(load_config(SMALLEST), {}, figures, results=tmp_path)
    assert plan.problems == {}
    assert len(plan.targets) == 8 + 6 + 1
    plan.write_specs()
    for stage in plan.needed_for(plan.targets.values()):
        run_stage(plan.directory(stage) / "spec.json", Execution(device="cpu"))
    for target, stage in plan.targets.items():
        directory = plan.directory(stage)
        assert (directory / FIGURE_FILE).stat().st_size > 5000, target
        assert len(pd.read_csv(directory / FIGURE_DATA_FILE)) >= 5, target
        caption = (directory / CAPTION_FILE).read_text()
        if getattr(plan.stages[stage], "claims", True):  # some are of MNIST or CIFAR-10 alone
            assert "Claimed: " in caption, target
            assert "Measured" in caption, target
