"""The plan: ids by content, and which stages a change touches."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustprune.cli.plan_view import describe_plan
from robustprune.core import definitions
from robustprune.core.errors import UserError
from robustprune.core.stage_file import read_spec, write_spec
from robustprune.experiments.figures.curves import CurvesStage
from robustprune.experiments.figures.validation_curves import ValidationCurvesStage
from robustprune.experiments.papers import load_experiments, load_figures
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.experiments.tables.table import TableStage
from robustprune.images.sources import FileSource, synthetic_source
from robustprune.planning import plan as planning
from robustprune.planning.config import load_config
from robustprune.planning.context import Context
from robustprune.planning.plan import Plan, make_plan, stages_of_target
from robustprune.planning.tables import plan_table
from robustprune.pruning.prune import ManifestStage
from tiny import TABLE_1, plan_rows, specs_of

TARGET = "results/table1.csv"


def plan_of(overrides: dict[str, Any] | None = None, results: Path = Path("results")) -> Plan:
    return make_plan(load_config(overrides or {}), TABLE_1, results=results)


def new_kinds(plan: Plan, before: Plan) -> set[str]:
    return {spec.kind for stage, spec in plan.stages.items() if stage not in before.stages}


def raise_definition(monkeypatch: pytest.MonkeyPatch, raised: str) -> None:
    original = definitions.stated_in
    monkeypatch.setattr(
        definitions,
        "stated_in",
        lambda module: {name: version + (name == raised) for name, version in original(module).items()},
    )


def test_the_default_plan_has_the_stages_of_table_1() -> None:
    plan = plan_of()
    counts = Counter(spec.kind for spec in plan.stages.values())
    assert counts == {
        "pools": 3, "generators": 1, "models": 6, "scores": 2, "manifests": 1, "evaluations": 12, "tables": 1
    }  # fmt: skip
    assert set(stages_of_target(plan, TARGET)) == set(plan.stages)


def test_every_stage_comes_after_what_it_reads() -> None:
    plan = plan_of()
    order = list(stages_of_target(plan, TARGET))
    for stage_id in order:
        for kind, upstream in plan.stages[stage_id].upstream:
            assert plan.stages[upstream].kind == kind
            assert order.index(upstream) < order.index(stage_id)


ALL_AFTER = {"models", "scores", "manifests", "evaluations", "tables"}  # all kinds after the pools
CHANGES: list[tuple[dict[str, Any], set[str]]] = [
    ({"pruning": {"ratio": 0.3}}, {"manifests", "models", "evaluations", "tables"}),
    ({"margins": {"deepfool": {"max_steps": 20}}}, ALL_AFTER),
    ({"evaluation": {"cw": {"steps": 20}}}, {"evaluations", "tables"}),
    ({"training": {"trades": {"epochs": 3}}}, ALL_AFTER),
    ({"synthetic": {"count": 100}}, {"pools", *ALL_AFTER}),
    ({"synthetic": {"generator": {"steps": 5}}}, {"generators", "pools", *ALL_AFTER}),
    ({"seeds": [0, 1]}, {"tables"}),
    ({"training": {"trades": {"synthetic_fraction": 0}}}, ALL_AFTER),
    ({"execution": {"batch_size": 3, "device": "cpu", "checkpoint_seconds": 1}}, set()),
    ({"resources": {"models": {"threads": 2, "mem_mb": 900, "runtime": 1, "gpu": 0}}}, set()),
    ({"threat": {"epsilon": "3/20"}}, set()),
]


@pytest.mark.parametrize(("overrides", "kinds"), CHANGES, ids=lambda value: str(sorted(value))[:60])
def test_a_change_touches_the_stages_that_depend_on_it_and_no_other(overrides: dict[str, Any], kinds: set[str]) -> None:
    assert new_kinds(plan_of(overrides), plan_of()) == kinds


def test_without_synthetic_images_in_a_batch_none_are_made() -> None:
    kinds = Counter(spec.kind for spec in plan_of({"training": {"trades": {"synthetic_fraction": 0}}}).stages.values())
    assert (kinds["generators"], kinds["pools"]) == (0, 2)


def test_a_recipe_that_shows_synthetic_images_needs_some() -> None:
    with pytest.raises(UserError, match=r"source = none, but training.trades.synthetic_fraction = 0.7"):
        plan_of({"synthetic": {"source": "none"}})


def test_a_search_that_ends_before_epsilon_is_refused() -> None:
    with pytest.raises(UserError, match=r"PUMA: margins.boundary_search.step_size \* max_steps = 38/255 .* 3/20"):
        plan_of({"margins": {"method": "boundary_search", "boundary_search": {"max_steps": 38}}})


def test_a_pruning_ratio_leaves_the_baseline_alone() -> None:
    plan, other = plan_of(), plan_of({"pruning": {"ratio": 0.3}})
    shared = set(plan.stages) & set(other.stages)
    assert sum(plan.stages[stage].kind == "models" for stage in shared) == 3
    assert sum(plan.stages[stage].kind == "scores" for stage in shared) == 2


def test_a_raised_definition_renames_the_stages_that_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan_of()
    raise_definition(monkeypatch, "margins.deepfool")
    assert new_kinds(plan_of(), before) == ALL_AFTER


def test_a_raised_summary_renames_tables_and_the_figures_of_their_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    def planned() -> Plan:
        return make_plan(load_config({}), load_experiments(), load_figures())

    before = planned()
    raise_definition(monkeypatch, "evaluation.summary")
    after = planned()
    renamed = {type(after.stages[stage]) for stage in after.stages if stage not in before.stages}
    assert renamed == {TableStage, CurvesStage, ValidationCurvesStage}
    kept = [type(after.stages[stage]) for stage in after.stages if stage in before.stages]
    assert renamed.isdisjoint(kept)


def test_the_view_says_what_exists_and_what_would_run(tmp_path: Path) -> None:
    plan = plan_of(results=tmp_path)
    target = str(tmp_path / "table1.csv")
    text = describe_plan(plan, [target])
    assert "26 stages: 0 exist, 26 would run (preset digits)" in text.splitlines()
    model = next(stage for stage in plan.stages if stage.startswith("puma-trades-smallcnn"))
    for stage_id in plan.needed_for([model]):
        plan.directory(stage_id).mkdir(parents=True)
    plan.record(model).touch()
    lines = describe_plan(plan, [model]).splitlines()
    assert "9 stages: 1 exist, 0 would run (preset digits)" in lines
    assert next(line for line in lines if line.startswith("all ")).split()[:4] == ["all", "9", "1", "0"]
    assert any(line.startswith("not needed") for line in lines)


def test_the_view_of_several_targets_has_what_they_share_once(tmp_path: Path) -> None:
    plan = plan_of(results=tmp_path)
    models = [stage for stage in plan.stages if plan.stages[stage].kind == "models"][:2]
    lines = describe_plan(plan, models).splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("would run")] == plan.needed_for(models)


def test_a_table_that_the_configuration_does_not_allow_is_refused_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (table,) = TABLE_1.values()
    other = table.model_copy(update={"target": "other.csv"})

    def refuse(context: Context, name: str, table: Table) -> str:
        stage = plan_table(context, name, table)
        if name == "other":
            raise UserError("too few epochs")
        return stage

    monkeypatch.setattr(planning, "plan_table", refuse)
    plan = make_plan(load_config({}), {"other": other, **TABLE_1})
    assert set(plan.stages) == set(plan_of().stages)
    assert TARGET in plan.targets
    with pytest.raises(UserError, match=r"results/other.csv .* too few epochs"):
        describe_plan(plan, ["results/other.csv"])
    assert re.match("results/other.csv .* too few epochs", describe_plan(plan).splitlines()[-1])
    with pytest.raises(UserError, match=r"^too few epochs"):
        make_plan(load_config({}), {"other": other})


@pytest.mark.parametrize("target", ["results/table9.csv", "nothing"])
def test_an_unknown_target_is_refused_with_a_known_one(target: str) -> None:
    with pytest.raises(UserError, match=rf"{target} .*results/table1.csv"):
        describe_plan(plan_of(), [target])


def test_what_needs_a_source_that_is_none_stops_nothing_else() -> None:
    plan = make_plan(load_config({"extrapolation": {"source": "none"}}), load_experiments())
    assert "results/table1.csv" in plan.targets
    assert "extrapolation.source = none" in plan.problems["results/nieth/table3.csv"]


def test_a_folder_of_generated_images_is_looked_at_once_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(text: str, *, setting: str) -> FileSource:
        asked.append(text)
        return synthetic_source(text, setting=setting)

    np.savez(tmp_path / "some.npz", image=np.zeros((20, 8, 8), np.uint8), label=np.arange(20) % 10)
    monkeypatch.setattr("robustprune.planning.pools.synthetic_source", counted)
    source = f"npz:{tmp_path}/some.npz"
    settings = {"synthetic": {"source": source}, "extrapolation": {"source": "none"}}
    assert make_plan(load_config(settings), load_experiments()).targets
    assert asked == [source]


def test_a_spec_file_survives_the_round_trip_and_refuses_changes(tmp_path: Path) -> None:
    for stage_id, spec in plan_of().stages.items():
        path = tmp_path / stage_id / "spec.json"
        write_spec(path, spec)
        assert read_spec(path) == spec
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7').replace("table1", "table7"))
    with pytest.raises(UserError, match="plan again"):
        read_spec(path)
    path.write_text("{")
    with pytest.raises(UserError, match="not a stage's spec"):
        read_spec(path)
    path.unlink()
    with pytest.raises(UserError, match="does not exist"):
        read_spec(path)


def test_a_control_of_equal_size_follows_its_rows_manifest() -> None:
    plan = plan_rows(
        Row(method="PUMA", strategy="puma", radius="margin", ratio=0.3),
        Row(method="control", strategy="random", same_size_as="PUMA", per="class"),
    )
    followed, control, *_ = specs_of(plan, ManifestStage)
    assert ("manifests", followed.id) in control.upstream
    order = list(stages_of_target(plan, "results/t.csv"))
    assert order.index(followed.id) < order.index(control.id)


def test_a_control_that_learns_from_other_pools_is_refused() -> None:
    control = Row(method="control", strategy="random", same_size_as="PUMA", recipe="rs_fgsm")
    with pytest.raises(UserError, match="cannot have the size of 'PUMA'"):
        plan_rows(Row(method="PUMA", strategy="puma"), control)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"strategy": "puma", "ratio": 0.2, "threshold": 0.1}, "at most 1 of ratio, threshold"),
        ({"strategy": "none", "ratio": 0.2}, "at most 0 of ratio"),
        ({"strategy": "random", "threshold": 0.1}, "needs a strategy that goes by a score"),
        ({"strategy": "low_high_loss_literal", "threshold": 0.1}, "takes no threshold"),
        ({"strategy": "puma", "ratio": [0.1, 0.1]}, "drops from 1 ends"),
        ({"strategy": "prune_easy_and_difficult", "threshold": 0.1}, "drops from 2 ends"),
        ({"strategy": "prune_easy_and_difficult", "ratio": [0.6, 0.4]}, "below 1 in all"),
        ({"strategy": "puma", "ratio": 1}, "below 1 in all"),
        ({"strategy": "puma", "gap": "1/8"}, "follows the margin"),
        ({"strategy": "prune_easy", "score": "el2n", "margin_model": "theirs"}, "goes by a margin or a loss"),
        ({"mid_training": {"keep": 0.5, "strategy": "random", "at": "clean"}}, "score = loss and at = clean"),
        ({"mid_training": {"keep": 0.5, "strategy": "random", "score": "deepfool"}}, "score = deepfool and at = clean"),
        ({"online": {"warm_up_epochs": 2}}, "warm_up_epochs = 2 needs a threshold"),
    ],
    ids=str,
)
def test_a_row_that_makes_no_sense_is_refused(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Row(method="m", **keys)


def test_a_row_can_follow_only_one_that_prunes() -> None:
    rows = (Row(method="all"), Row(method="control", strategy="random", same_size_as="all"))
    with pytest.raises(ValueError, match="not among the rows that prune"):
        Table(title="t", target="t.csv", rows=rows)


def test_what_is_drawn_with_replacement_is_followed_in_all_but_not_by_class() -> None:
    """A class can have more images after the draw than before, so that fewer than none would be dropped."""
    keys: dict[str, Any] = {"method": "control", "strategy": "random", "same_size_as": "drawn"}
    drawn = Row(method="drawn", strategy="random_with_replacement", ratio=0.1)
    assert Table(title="t", target="t.csv", rows=(drawn, Row(**keys)))
    with pytest.raises(ValueError, match="control: per = class, but 'drawn'"):
        Table(title="t", target="t.csv", rows=(drawn, Row(**keys, per="class")))


def test_only_a_tables_row_follows_another() -> None:
    """A row on its own, as in figures of pairs or for a margin_model, does not fall back on pruning.ratio."""
    control = Row(method="control", strategy="random", same_size_as="PUMA")
    with pytest.raises(UserError, match="control: same_size_as = 'PUMA'"):
        plan_rows(Row(method="by control's model", strategy="puma", margin_model=control))
