"""What the runs of a row have of their own: a random subset, and where it is asked for, scores and margins."""

from typing import cast

import pytest
from pydantic import ValidationError

from robustprune.core.errors import UserError
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.experiments.tables.table import TableStage
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.pruning.prune import ManifestStage
from robustprune.scores.margin import MarginStage
from robustprune.training.model import ModelStage

SEEDS = (5, 0, 7)


def plan_of(*rows: Row) -> Plan:
    table = Table(title="A table", target="a.csv", rows=rows)
    return make_plan(load_config({"preset": "digits", "seeds": SEEDS}), {"a": table})


def table_of(plan: Plan) -> TableStage:
    return cast(TableStage, plan.stages[plan.targets["results/a.csv"]])


def manifests(plan: Plan, row: int = 0) -> dict[int, ManifestStage]:
    """The manifest of each run."""
    models = {run.seed: cast(ModelStage, plan.stages[str(run.model)]) for run in table_of(plan).rows[row].runs}
    return {seed: cast(ManifestStage, plan.stages[str(model.manifest)]) for seed, model in models.items()}


@pytest.mark.parametrize("strategy", ["random", "random_with_replacement"])
def test_random_images_are_drawn_anew_for_each_run(strategy: str) -> None:
    plan = plan_of(Row(method="random", strategy=strategy))
    assert {seed: manifest.seed for seed, manifest in manifests(plan).items()} == {seed: seed for seed in SEEDS}
    assert "drawn anew" in table_of(plan).spread


def test_runs_share_what_chance_has_no_part_in() -> None:
    plan = plan_of(Row(method="PUMA", strategy="puma", radius="margin"))
    assert len({manifest.id for manifest in manifests(plan).values()}) == 1
    assert "measured once" in table_of(plan).spread


@pytest.mark.parametrize("score", ["margin", "uncertainty", "loss"])
def test_a_row_can_measure_anew_for_each_run(score: str) -> None:
    plan = plan_of(Row(method="PUMA", strategy="puma", score=score, margin_model_per_seed=True))
    seeds = {}
    for seed, manifest in manifests(plan).items():
        upstream = [pair for scores in manifest.scores for pair in plan.stages[scores].upstream]
        seeds[seed] = {cast(ModelStage, plan.stages[stage]).seed for kind, stage in upstream if kind == "models"}
    assert seeds == {seed: {seed} for seed in SEEDS}
    assert "PUMA" in table_of(plan).spread
    once = plan_of(Row(method="PUMA", strategy="puma", score=score))
    (shared,) = {manifest.scores for manifest in manifests(once).values()}
    assert shared == manifests(plan)[SEEDS[0]].scores


def test_pools_do_not_depend_on_the_seed_of_scores() -> None:
    plan = plan_of(Row(method="PUMA", strategy="puma", margin_model_per_seed=True))
    margins = [stage for stage in plan.stages.values() if isinstance(stage, MarginStage)]
    assert len(margins) == len(SEEDS) * len({stage.pool for stage in margins})
    assert len({manifest.pools for manifest in manifests(plan).values()}) == 1


@pytest.mark.parametrize(
    "row",
    [{"strategy": "random"}, {"strategy": "puma", "imported": "x"}, {"strategy": "puma", "margin_model": "theirs"}],
    ids=str,
)
def test_what_has_no_seed_cannot_be_measured_anew(row: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="margin_model_per_seed"):
        Row.model_validate({"method": "m", **row, "margin_model_per_seed": True})


def test_a_row_that_measures_anew_has_no_one_size_to_follow() -> None:
    rows = (
        Row(method="PUMA", strategy="puma", margin_model_per_seed=True),
        Row(method="control", strategy="random", same_size_as="PUMA"),
    )
    with pytest.raises(UserError, match="same_size_as = 'PUMA'"):
        plan_of(*rows)


def test_a_table_says_which_scores_are_of_a_part_of_the_epochs() -> None:
    row = Row(method="easy", strategy="prune_easy", score="difficulty")
    table = Table(title="A table", target="a.csv", rows=(row,))
    settings = {}
    for most in (0, 100_000):
        dynamics = {"recording": {"epochs": 4}, "every_epoch_up_to": most}
        plan = make_plan(load_config({"preset": "digits", "dynamics": dynamics}), {"a": table})
        settings[most] = table_of(plan).setting
    assert "difficulty is of 4 of" in settings[0]
    assert "epochs" not in settings[100_000]
