"""Two checkouts: one publishes the margins it measured, the other makes Table 1 of them and trains no margin model."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from checkout import Checkout, rules_in
from places import nginx, s3_api
from robustprune.core.execution import Execution
from robustprune.core.files import digest
from robustprune.core.job import run_stage
from robustprune.core.yaml_files import merge
from robustprune.experiments.papers import load_experiments
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.sharing.commands import publish
from tiny import TINY, stage_of

pytestmark = pytest.mark.slow

TABLE = "results/table1.csv"
SMALL: dict[str, Any] = merge(
    TINY,
    {
        "synthetic": {"source": "none"},
        "training": {"trades": {"epochs": 1, "epoch_images": 256, "synthetic_fraction": 0, "attack_steps": 1}},
        "evaluation": {"images": 20, "cw": {"steps": 4}, "autoattack_images": 4},
    },
)
"""Real digits alone, so that no generator is needed."""


def puma_alone(checkout: Checkout) -> None:
    """Table 1 with the row of PUMA: its other row trains the very model that measures margins, as a baseline."""
    path = checkout.file("workflow/experiments/puma.yaml")
    experiments = yaml.safe_load(path.read_text())
    table = experiments["tables"]["table1"]
    table["rows"] = [row for row in table["rows"] if row["method"] == "PUMA"]
    del table["claims"]  # which are about both rows
    path.write_text(yaml.safe_dump(experiments))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, str]:
    """The first team's plan, with the margins of the training images measured under a model it trained."""
    plan = make_plan(load_config(SMALL), load_experiments(), results=tmp_path_factory.mktemp("first") / "results")
    plan.write_specs()
    score = stage_of(plan, "scores", "margin-linf-digits-train")
    for stage in plan.needed_for([score]):
        run_stage(plan.directory(stage), Execution(device="cpu"))
    return plan, score


@pytest.fixture
def second(tmp_path: Path) -> Checkout:
    """Another checkout elsewhere, with nothing made."""
    folder = tmp_path / "second"
    folder.mkdir()
    checkout = Checkout(folder, only="puma.table1")
    puma_alone(checkout)
    return checkout


def configure(checkout: Checkout, *places: str) -> None:
    checkout.file("config.yaml").write_text(yaml.safe_dump({**SMALL, "shared_stores": list(places)}))


WITH_PULL = Counter({"pool": 2, "pull": 1, "manifest": 1, "model": 1, "table": 1, "target": 1})
"""And evaluations, of the one model."""


def without_evaluations(jobs: Counter[str]) -> Counter[str]:
    """The jobs but those that evaluate, which there must be."""
    assert jobs["evaluation"] >= 1
    return Counter({rule: count for rule, count in jobs.items() if not rule.startswith("evaluation")})


def test_table_1_of_published_margins_trains_no_margin_model(
    first: tuple[Plan, str], second: Checkout, tmp_path: Path
) -> None:
    plan, score = first
    shared = tmp_path / "shared"
    publish([plan.directory(score)], str(shared))
    configure(second, str(shared))
    assert without_evaluations(rules_in(second.snakemake(TABLE).stdout)) == WITH_PULL
    stage = second.file(f"results/digits/scores/{score}")
    assert digest(stage / "scores.zarr") == digest(plan.directory(score) / "scores.zarr")
    assert [path.parent.name.split("-")[0] for path in second.folder.glob("results/digits/models/*/record.json")] == [
        "puma"
    ]
    assert pd.read_csv(second.file(TABLE))["method"].tolist() == ["PUMA"]
    shutil.rmtree(shared)
    configure(second)
    assert "Nothing to be done" in second.snakemake(TABLE).stdout


@pytest.fixture(params=["s3", "nginx"])
def remote(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str, str]]:
    """Where to publish, where to read, and how that is told."""
    if request.param == "s3":
        with s3_api() as variables:
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            yield "s3://team/stores", "s3://team/stores", "s3://team/stores"
    else:
        root = tmp_path / "web"
        root.mkdir()
        with nginx(root, tmp_path / "nginx") as server:
            url = server.url.replace("http://", "http://me:pass@")
            yield str(root / "stores"), f"{url}/private/stores?sig=abcdef", f"{server.url}/private/stores"


def test_margins_from_far_away_take_the_place_of_a_margin_model(
    first: tuple[Plan, str], second: Checkout, remote: tuple[str, str, str]
) -> None:
    """Here the images are there already. All that is printed and written has no credentials in it."""
    plan, score = first
    to, location, told = remote
    publish([plan.directory(score)], to)
    shutil.copytree(plan.results / "pools", second.folder / "results/digits/pools")
    configure(second, location)
    second.environment |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    there = Counter({"pool": len(list(second.folder.glob("results/digits/pools/*/record.json")))})
    assert without_evaluations(second.jobs(TABLE)) == WITH_PULL - there
    done = second.snakemake("--printshellcmds", "--verbose", f"results/digits/scores/{score}/record.json")
    assert rules_in(done.stdout) == Counter({"pull": 1})
    stage = second.file(f"results/digits/scores/{score}")
    assert digest(stage / "scores.zarr") == digest(plan.directory(score) / "scores.zarr")
    assert f"pulling from {told}" in (stage / "job.log").read_text()
    files = [path for path in (second.folder / "results").rglob("*") if path.is_file()]
    files += [path for path in (second.folder / ".snakemake").rglob("*") if path.is_file()]
    for text in (done.stdout, *(path.read_bytes().decode("latin-1") for path in files)):
        assert all(secret not in text for secret in ("me:pass", "sig=abcdef", "test-secret-key"))
