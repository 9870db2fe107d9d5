"""Experiments as data: the conditions of a row, margin models that are rows, and what is refused."""

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from robustprune.core.errors import UserError
from robustprune.core.paths import EXPERIMENTS
from robustprune.core.settings import ThreatModel
from robustprune.evaluation.robustness import EvaluationStage
from robustprune.experiments.figures.phase_map import PhaseMap
from robustprune.experiments.papers import load_experiments, load_figures
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Comparisons, Hyperparameters, Table
from robustprune.experiments.tables.row_specs import Printed
from robustprune.experiments.tables.table import TableStage
from robustprune.experiments.tables.table_rows import printed_beside
from robustprune.images.sources import real_source
from robustprune.planning.conditions import changed_by
from robustprune.planning.config import Config, load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.scores.margin import MarginStage
from robustprune.training.model import ModelStage
from tiny import plan_rows, spec_of, specs_of, write_experiments

OTHER = {"other_threat": {"norm": "L2", "epsilon": "1/2", "step_size": "1/10"}}


def plan_of(*rows: dict[str, Any], overrides: dict[str, Any] | None = None) -> Plan:
    return plan_rows(*map(Row.model_validate, rows), overrides={"seeds": [0], **(overrides or {})})


def model_of(plan: Plan, method: str) -> ModelStage:
    (table,) = specs_of(plan, TableStage)
    (run,) = next(row.runs for row in table.rows if row.method == method)
    return spec_of(plan, str(run.model), ModelStage)


def under(config: Config, **conditions: Any) -> Config:
    row = Row(method="m", **conditions)
    return changed_by(row.conditions, config, origin=row.method)


def test_without_conditions_the_configuration_is_the_users() -> None:
    config = load_config({})
    assert under(config) is config
    assert under(config, norm="Linf", data="all", epochs=1) is config


def test_the_other_norm_changes_radius_and_steps_together() -> None:
    config = under(load_config(OTHER), norm="L2")
    assert (config.threat.norm, config.threat.epsilon) == ("L2", Fraction(1, 2))
    assert config.training.trades.step_size == config.training.pgd_at.step_size == Fraction(1, 10)


def test_real_images_alone_need_no_synthetic_ones() -> None:
    plan = plan_of({"method": "real", "data": "real"}, overrides={"synthetic": {"source": "none"}})
    assert model_of(plan, "real").synthetic is None
    assert {spec.kind for spec in plan.stages.values()} == {"pools", "models", "evaluations", "tables"}


def test_epochs_are_shares_of_the_recipes() -> None:
    trades = load_config({"preset": "cifar10"}).training.trades
    assert under(load_config({"preset": "cifar10"}), epochs="3/4").training.trades.epochs == 300 == 0.75 * trades.epochs
    assert under(load_config({}), epochs="1/1000").training.trades.epochs == 1


def test_a_share_of_the_epochs_that_the_schedule_does_not_allow_is_refused_by_the_rows_name() -> None:
    with pytest.raises(UserError, match=r"m: training.standard: schedule = onecycle_epoch"):
        under(load_config({"preset": "cifar10"}), epochs="1/10")


def test_a_network_is_named_or_by_its_part() -> None:
    config = load_config({"preset": "cifar10"})
    networks = [under(config, architecture=name).architecture for name in ("wide", "widest", "fast", "preact_resnet18")]
    assert networks == ["wrn28_10_swish", "wrn70_16_swish", "fast_preact_resnet18", "preact_resnet18"]


@pytest.mark.parametrize("trained_on", ["real", "synthetic", "source"])
def test_where_all_rows_learn_from_one_pool_no_batch_is_mixed(trained_on: str) -> None:
    config = load_config({"data": {"trained_on": trained_on}, "training": {"trades": {"synthetic_fraction": 0.5}}})
    assert under(config).training.trades.synthetic_fraction == 0
    assert under(config, data="all").training.trades.synthetic_fraction == 0.5


def test_one_pass_makes_an_epoch_of_what_is_kept() -> None:
    config = load_config({"preset": "cifar10"})
    assert config.training.trades.epoch_images == 50_000
    assert under(config, one_pass=True).training.trades.epoch_images is None
    assert under(config, one_pass=True, data="real").training.trades.synthetic_fraction == 0


def test_rows_with_the_same_conditions_share_stages_and_the_rest_do_not() -> None:
    real = {"data": "real"}
    plan = plan_of({"method": "a", **real}, {"method": "b", **real, "epochs": "1/2"}, {"method": "c"})
    a, b, c = (model_of(plan, method) for method in "abc")
    assert (a.real, a.threat) == (b.real, b.threat) == (c.real, c.threat)
    assert len({model.id for model in (a, b, c)}) == 3
    again = plan_of({"method": "a", **real}, {"method": "also a", **real})
    assert model_of(again, "a") == model_of(again, "also a")


def test_images_that_a_recipe_leaves_no_place_for_are_refused_whatever_rows_come_before() -> None:
    sets = {"subsets": {"small": {"of": "generate", "count": 100}}}
    fitting = {"method": "A", "synthetic": "subset:small"}
    with pytest.raises(UserError, match=r"B: synthetic = subset:small, but training.rs_fgsm.synthetic_fraction"):
        plan_of(fitting, {**fitting, "method": "B", "recipe": "rs_fgsm"}, overrides=sets)


def test_the_folders_of_real_images_are_looked_at_once_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(*args: Any, **settings: Any) -> Any:
        asked.append(settings["split"])
        return real_source(*args, **settings)

    monkeypatch.setattr("robustprune.planning.pools.real_source", counted)
    plan_of({"method": "a"}, {"method": "b", "epochs": "1/2"}, {"method": "c", "data": "real"})
    assert sorted(asked) == ["test", "train"]


def test_a_rows_own_conditions_do_not_change_which_images_are_selected() -> None:
    best = {"synthetic": {"source": "selection:best"}, "selections": {"best": {"of": "generate", "keep": "1/3"}}}
    rows = {"as configured": {}, "short": {"epochs": "1/2"}, "other": {"architecture": "fast_cnn"}}
    plan = plan_of(*({"method": method, **conditions} for method, conditions in rows.items()), overrides=best)
    assert len({model_of(plan, method).synthetic for method in rows}) == 1
    assert sum(spec.kind == "scores" for spec in plan.stages.values()) == 1


def test_a_comparison_by_what_no_attack_measures_is_refused() -> None:
    of = Table(title="t", target="t.csv", rows=(Row(method="a"), Row(method="b", strategy="random")))
    row = {"method": "x", "row": "a", "against": "b"}
    table = Comparisons.model_validate(
        {"form": "comparisons", "title": "c", "target": "c.csv", "of": of, "quantity": "autoattack", "rows": [row]}
    )
    with pytest.raises(UserError, match=r"autoattack is measured .* attacks = cw"):
        make_plan(load_config({"evaluation": {"attacks": ["cw"]}}), {"c.c": table})
    assert make_plan(load_config({"evaluation": {"attacks": ["cw", "autoattack"]}}), {"c.c": table}).targets


SEARCH = {"margins": {"method": "boundary_search", "boundary_search": {"step_size": "1/100", "max_steps": 20}}}
SUBSETS = {name: {"of": "generate", "count": 20} for name in "ab"}
EXTRAPOLATED = {"strategy": "puma", "extrapolated": True}
LATE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"strategy": "puma", "threshold": 26}, {}, "m: threshold = 26 .* below 1, .* 26/255"),
    ({"strategy": "puma", "threshold": 0.3}, SEARCH, "max_steps = 1/5 .* threshold = 3/10"),
    ({"radius": "margin", "epsilon": "5/4", "gap": "1/4"}, SEARCH, "max_steps = 1/5 .* radius and the gap .* = 9/40"),
    ({}, {"synthetic": {"source": "subset:a", "count": 19}, "subsets": SUBSETS}, "subsets.a.count = 20, .* 19 images"),
    (EXTRAPOLATED, {"extrapolation": {"neighbours": {"k": [5, 100_000]}}}, r"neighbours.k = 100000, .* 1\d{3} images"),
    ({}, {"threat": {"norm": "L2", "epsilon": 2}, "other_threat": None},
     r"training.trades.attack_steps \* step_size = 3/8 .* threat.epsilon = 2"),
    *(
        ({**EXTRAPOLATED, "synthetic": target}, {"subsets": SUBSETS, "extrapolation": {"source": "subset:a"}},
         "images of digits-.* extrapolated, are in digits-subset-")
        for target in ("generate", "subset:a")
    ),
    ({}, {"synthetic": {"source": "union:two"}, "subsets": SUBSETS,
          "unions": {"two": {"of": {"subset:a": None, "subset:b": None}}}},
     "unions.two.of: subset:a and subset:b are the same images"),
    ({"strategy": "puma", "among": "real", "data": "synthetic"}, {}, "m: among = real, .* digits-generated-"),
    ({}, {"architecture": "preact_resnet18", "execution": {"processes": 2},
          "resources": {"generators": {"gpu": 0}, "models": {"gpu": 0}},
          "training": {"trades": {"batchnorm_shares": 4}}},
     "execution.processes = 2, but training.trades.batchnorm_shares = 4"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "overrides", "says"), LATE)
def test_what_a_late_job_would_refuse_is_refused_while_planning(
    row: dict[str, Any], overrides: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        plan_of({"method": "m", **row}, overrides=overrides)


def test_a_search_that_reaches_beyond_all_that_a_row_goes_by_is_planned() -> None:
    assert plan_of({"method": "m", "strategy": "puma", "threshold": 0.19}, overrides=SEARCH).targets


@pytest.mark.parametrize("target", ["quality.csv", "digits/first.csv", "mnist/first.csv"])
def test_a_target_that_is_taken_is_refused(target: str) -> None:
    table = Table(title="t", target=target, rows=(Row(method="m"),))
    with pytest.raises(UserError, match=r"same target, quality|results/(digits|mnist)"):
        make_plan(load_config({}), {"t.t": table})


def test_a_table_of_settings_reads_none_that_its_rows_do_not_name() -> None:
    def planned(setting: str) -> Plan:
        content: dict[str, Any] = {
            "form": "hyperparameters", "title": "t", "target": "t.csv", "recipe": "standard",
            "quantities": ["configured"], "rows": [{"method": "m", "setting": setting}],
        }  # fmt: skip
        return make_plan(load_config({}), {"t.t": Hyperparameters.model_validate(content)})

    (spec,) = specs_of(planned("epochs"), TableStage)
    assert spec.setting == ""
    assert spec.rows[0].told == {"configured": str(load_config({}).training.standard.epochs)}
    with pytest.raises(UserError, match=r"recipe = standard .* no attack step"):
        planned("attack_step")


def test_text_for_people_is_one_line() -> None:
    table = Table(title="A long\n title\n", target="t.csv", rows=(Row(method="a\nb"),))
    assert (table.title, table.methods) == ("A long title", ("a b",))


@pytest.mark.parametrize("target", ["/t.svg", "/digits/t.svg", "a//t.svg", ".svg"])
def test_a_figure_that_would_lie_elsewhere_is_refused(tmp_path: Path, target: str) -> None:
    write_experiments(tmp_path, figures={"first": {"form": "phase_map", "title": "t", "target": target}})
    with pytest.raises(UserError, match=rf"figures.first.target = '{target}'"):
        load_figures(tmp_path)


def test_a_table_says_what_its_rows_are_measured_on_and_with() -> None:
    overrides = {**OTHER, "evaluation": {"images": 40, "pgd_50_10": {"steps": 100}}}
    attacks = ("clean", "cw", "pgd_50_10", "autoattack")
    rows = Row(method="m"), Row(method="other", norm="L2")
    (spec,) = specs_of(plan_rows(*rows, overrides=overrides, attacks=attacks), TableStage)
    linf = load_config({}).threat.epsilon
    assert spec.setting.split("; ") == [
        "digits",
        f"PGD on the CW margin in Linf of {linf}, 40 steps of 1/4 epsilon",
        f"PGD-50-10 in Linf of {linf}, 100 steps of 1/4 epsilon, 10 starts",
        f"AutoAttack in Linf of {linf}",
        "PGD on the CW margin in L2 of 1/2, 40 steps of 1/4 epsilon",
        "PGD-50-10 in L2 of 1/2, 100 steps of 1/4 epsilon, 10 starts",
        "AutoAttack in L2 of 1/2",
    ]


def test_a_norm_that_is_not_configured_is_refused_and_no_other_table_suffers() -> None:
    with pytest.raises(UserError, match=r"m: norm = L2 .* Linf; .* other_threat"):
        under(load_config({"other_threat": None}), norm="L2")


def test_two_threats_of_one_norm_are_refused() -> None:
    with pytest.raises(UserError, match=r"other_threat.norm = Linf"):
        load_config({"other_threat": {"norm": "Linf", "epsilon": 0.1, "step_size": 0.1}})


PUMA: dict[str, Any] = {"method": "PUMA", "strategy": "puma", "radius": "margin"}


def margin_model(plan: Plan) -> ModelStage:
    (model,) = {spec.model for spec in specs_of(plan, MarginStage)}
    return spec_of(plan, model, ModelStage)


def test_a_margin_model_has_conditions_of_its_own() -> None:
    plan = plan_of({**PUMA, "margin_model": {"method": "real", "data": "real", "architecture": "fast_cnn"}})
    model = margin_model(plan)
    assert (model.synthetic, model.architecture, model.seed) == (None, "fast_cnn", 0)
    student = model_of(plan, "PUMA")
    assert student.architecture == "small_cnn"
    assert student.synthetic is not None


def test_without_one_margins_are_measured_by_trades_of_the_students_conditions() -> None:
    model = margin_model(plan_of({**PUMA, "architecture": "fast_cnn", "norm": "L2"}, overrides=OTHER))
    assert model.threat is not None
    assert (model.architecture, model.threat.norm, model.manifest) == ("fast_cnn", "L2", None)


def test_pumas_own_model_can_measure_margins_again() -> None:
    plan = plan_of({**PUMA, "margin_model": PUMA})
    margins = specs_of(plan, MarginStage)
    assert len(margins) == 4  # of both pools, by TRADES and by PUMA
    assert {bool(plan.stages[spec.model].model_dump()["manifest"]) for spec in margins} == {True, False}


def test_what_attacks_nothing_is_one_stage_under_both_norms() -> None:
    rows = [
        {"method": f"{recipe} {norm}", "recipe": recipe, "norm": norm}
        for recipe in ("standard", "trades")
        for norm in ("Linf", "L2")
    ]
    recorded = [
        {"method": norm, "norm": norm, "strategy": "keep_highest", "score": "uncertainty"} for norm in ("Linf", "L2")
    ]
    plan = plan_of(*rows, *recorded, overrides={**OTHER, "evaluation": {"attacks": ["clean", "cw"]}})
    assert model_of(plan, "standard Linf") == model_of(plan, "standard L2")
    assert model_of(plan, "standard L2").threat is None
    assert model_of(plan, "trades Linf") != model_of(plan, "trades L2")
    assert sum(spec.recording is not None for spec in specs_of(plan, ModelStage)) == 1
    of_standard = model_of(plan, "standard L2").id
    attacks = [spec.attack for spec in specs_of(plan, EvaluationStage) if spec.model == of_standard]
    assert sorted(attacks) == ["clean", "cw", "cw"]


def test_an_evaluation_is_under_the_rows_norm() -> None:
    plan = plan_of({"method": "m", "norm": "L2"}, overrides={**OTHER, "evaluation": {"attacks": ["cw"]}})
    (evaluation,) = specs_of(plan, EvaluationStage)
    assert evaluation.threat == ThreatModel(norm="L2", epsilon=Fraction(1, 2))


def test_a_radius_that_follows_the_difficulty_is_extrapolated_without_pruning() -> None:
    keys: dict[str, Any] = {"method": "weak", "radius": "weak_if_difficult", "extrapolated": True}
    assert Row(**keys).unused_keys == ()
    pruned = Row(**keys, strategy="prune_easy", margin_model="theirs")
    assert pruned.at("ratio", 0) == Row.model_validate({**keys, "method": "weak at 0"})


TABLE = {"title": "t", "target": "t.csv", "rows": [{"method": "a"}, {"method": "b"}]}
CHECK = {"quantity": "accuracy", "row": "a", "above": "b"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"rows": [{"method": "a"}, {"method": "a"}]}, "two rows have the method 'a'"),
    ({"baseline": "c"}, "baseline = 'c' is not among the rows: a, b"),
    ({"claims": [{"claim": "c", "checks": [{**CHECK, "row": "z"}]}]}, "there is no row 'z'; there are a, b"),
    ({"claims": [{"claim": "c", "checks": [{**CHECK, "quantity": "k"}]}]}, "there is no column k"),
    ({"claims": [{"claim": "c", "checks": [{**CHECK, "below": 1}]}]}, "one of above, below and near"),
    ({"claims": [{"claim": "c", "checks": [{"quantity": "accuracy", "row": "a", "near": "b"}]}]}, "near needs within"),
    ({"baseline": {"L2": "a"}}, "baseline names a method for each norm, and none for 'a', which names no norm"),
    ({"rows": [{"method": "a"}, {"method": "b", "score": "loss"}]}, "b: score would change nothing"),
    ({"rows": [{"method": "a", "among": "real", "per": "class"}]}, "a: among, per would change nothing"),
    ({"rows": [{"method": "a", "extrapolated": True}]}, "a: extrapolated would change nothing"),
    ({"quantities": ["accuracies"]}, "quantities.0 = 'accuracies'"),
    ({"target": "../t.csv"}, "target = '../t.csv'"),
    ({"form": "method"}, "its form is one of methods, comparisons"),
    ({"rows": [{"method": "a", "printed": "PUMA"}]}, "'a' names a printed row, and the table no file"),
    ({"form": "layouts", "rows": [{"method": "a", "strategy": "puma"}]}, "'a': in a plane are all real images"),
    ({"form": "comparisons", "of": TABLE, "quantity": "accuracy",
      "rows": [{"method": "x", "row": "a", "against": "z"}]}, "'z' is not a method of t.csv: a, b"),
    ({"form": "extrapolations"}, "the row 'a' lacks extrapolated: true"),
    ({"quantity": "accuracy"}, "table1.quantity = 'accuracy': there is no such key (did you mean 'quantities'?)"),
    ({"form": "layouts", "attacks": ["cw"]}, "table1.attacks: there is no such key; allowed are title, target, "),
    ({"rows": [{"method": "a", "margin_model": {"method": "m", "data": "rael"}}]},
     "table1.rows.0.margin_model.data = 'rael': Input should be 'all', 'real', "),
    ({"baseline": {"L3": "a"}}, "table1.baseline.L3 = 'L3': Input should be 'Linf' or 'L2'"),
    ({"rows": "a"}, "table1.rows = 'a': should be a list, in brackets"),
    ({"rows": [{"method": "a", "strategie": "puma"}]}, "table1.rows.0.strategie = 'puma'"),
    ({"rows": [{"method": "a", "strategy": "random", "score": "loss"}]}, "a: score would change nothing, as its"),
    ({"rows": [{"method": "a", "checkpoint": "theirs", "architecture": "wide", "recipe": "standard"}]},
     "a row with a checkpoint trains nothing, so architecture, recipe would change nothing"),
    ({"quantities": ["accuracy", "p_value"]}, "quantities.1 = 'p_value': "),
    ({"form": "hyperparameters", "recipe": "trades", "quantities": ["gain"]}, "quantities.0 = 'gain': "),
    ({"quantities": ["accuracy", "accuracy"]}, "quantities has accuracy twice"),
    ({"attacks": ["cw", "cw"]}, "table1.attacks = ['cw', 'cw']: should name each attack once"),
    ({"attacks": ["cw"], "quantities": ["autoattack"]}, "autoattack is measured under autoattack"),
    ({"quantities": ["accuracy"], "printed": {"file": "p.csv", "setting": "s", "beside": {"autoattack": "x"}}},
     "printed.beside: there is no column autoattack; there are accuracy"),
    ({"claims": [{"claim": "c", "data": "MNIST", "checks": [CHECK]}]}, "claims.0.data = 'MNIST': String should match"),
    ({"attacks": ["cw"], "claims": [{"claim": "c", "checks": [{**CHECK, "quantity": "autoattack"}]}]},
     "autoattack is measured under autoattack"),
    ({"attacks": ["cw"], "printed": {"file": "p.csv", "setting": "s", "beside": {"autoattack": "x"}}},
     "autoattack is measured under autoattack"),
    ({"form": "comparisons", "of": {**TABLE, "attacks": ["cw"]}, "quantity": "autoattack",
      "rows": [{"method": "x", "row": "a", "against": "b"}]}, "autoattack is measured under autoattack"),
    ({"target": "/t.csv"}, "target = '/t.csv'"),
    ({"target": ".csv"}, "target = '.csv'"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "says"), BAD, ids=lambda value: str(value)[:60])
def test_a_table_that_makes_no_sense_is_refused_by_file_and_key(
    tmp_path: Path, keys: dict[str, Any], says: str
) -> None:
    write_experiments(tmp_path, tables={"table1": {**TABLE, **keys}})
    with pytest.raises(UserError) as caught:
        load_experiments(tmp_path)
    assert str(caught.value).startswith("mine.yaml: tables.table1")
    assert says in str(caught.value)


def test_an_entry_that_has_the_name_of_a_form_keeps_it_in_a_message(tmp_path: Path) -> None:
    write_experiments(tmp_path, tables={"layouts": {**TABLE, "rows": [{"method": "a", "ratio": [0.1, "x"]}]}})
    with pytest.raises(UserError, match=r"^mine.yaml: tables.layouts.rows.0.ratio.1 = 'x'"):
        load_experiments(tmp_path)


def test_a_table_without_keys_is_refused_by_file_and_key(tmp_path: Path) -> None:
    write_experiments(tmp_path, tables={"table1": None})
    with pytest.raises(UserError, match=r"mine.yaml: tables.table1 = None"):
        load_experiments(tmp_path)


@pytest.mark.parametrize(
    ("paper", "table", "says"), [("Smith2024", "first", "paper = 'Smith2024'"), ("ours", "my table", "tables.my table")]
)
def test_a_name_that_cannot_be_part_of_an_id_is_refused(tmp_path: Path, paper: str, table: str, says: str) -> None:
    write_experiments(tmp_path, paper=paper, tables={table: TABLE})
    with pytest.raises(UserError, match=f"mine.yaml: {says}.* lower-case letters and digits"):
        load_experiments(tmp_path)


def test_a_name_may_have_a_hyphen(tmp_path: Path) -> None:
    write_experiments(tmp_path, paper="smith-2024", tables={"my-table": TABLE})
    tables = load_experiments(tmp_path)
    assert list(tables) == ["smith-2024.my-table"]
    plan = make_plan(load_config({"preset": "digits"}), tables, results=tmp_path)
    assert any(stage.startswith("smith-2024-my-table-") for stage in plan.stages)


def evaluated(evaluation: dict[str, Any], *attacks: str) -> list[tuple[str, int | None]]:
    """Attack and number of images of each evaluation of a row."""
    overrides = {"seeds": [0], "evaluation": evaluation}
    plan = plan_rows(Row(method="a"), overrides=overrides, attacks=attacks or None)
    return [(spec.attack, spec.images) for spec in specs_of(plan, EvaluationStage)]


def test_clean_accuracy_is_of_all_images_where_attacks_are_of_fewer() -> None:
    few = {"images": 400, "autoattack_images": 100}
    assert evaluated(few, "autoattack") == [("clean", 400), ("autoattack", 100)]
    assert evaluated(few, "cw", "autoattack") == [("cw", 400), ("autoattack", 100)]
    assert evaluated({"images": 400, "autoattack_images": 400}, "autoattack") == [("autoattack", 400)]


def test_as_many_images_as_there_are_is_all_of_them() -> None:  # the digits have 500 for testing
    asked = [evaluated({"images": images}, "cw") for images in (None, 500, 600, 499)]
    assert asked == [[("cw", None)]] * 3 + [[("cw", 499)]]


def test_two_files_with_a_table_of_one_name_are_refused(tmp_path: Path) -> None:
    write_experiments(tmp_path, tables={"table1": TABLE})
    shutil.copy(tmp_path / "mine.yaml", tmp_path / "yours.yaml")
    with pytest.raises(UserError, match=r"two files .* mine.table1"):
        load_experiments(tmp_path)


def test_a_table_and_a_figure_of_one_target_are_refused() -> None:
    table = Table(title="t", target="mine/t.csv", rows=(Row(method="a"),))
    figure = PhaseMap(form="phase_map", title="f", target="mine/t.svg")
    with pytest.raises(UserError, match=r"a.t and b.t .* mine/t;"):
        make_plan(load_config({}), {"a.t": table, "b.t": table})
    with pytest.raises(UserError, match=r"a.t and f.t .* mine/t;"):
        make_plan(load_config({}), {"a.t": table}, {"f.t": figure})


@pytest.mark.parametrize(
    ("file", "column", "row", "says"),
    [
        ("nobody.csv", "accuracy", "SOTA method using PUMA", "there is no nobody.csv"),
        ("puma_table1.csv", "recall", "SOTA method using PUMA", "no column 'recall'; it has method, accuracy"),
        ("puma_table1.csv", "accuracy", "PUMA", "0 rows with {'method': 'PUMA'}"),
    ],
)
def test_missing_printed_numbers_are_refused_while_planning(file: str, column: str, row: str, says: str) -> None:
    printed = Printed(file=file, setting="any", beside={"accuracy": column})
    with pytest.raises(UserError, match=says):
        plan_rows(Row(method="a", printed=row), printed=printed)


def test_printed_numbers_without_a_row_are_refused_and_a_short_row_is_empty_at_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("robustprune.experiments.tables.printed.REFERENCE", tmp_path)
    (tmp_path / "none.csv").write_text("method,accuracy\n")
    (tmp_path / "short.csv").write_text("method,accuracy,robustness\na,1\n")
    printed = Printed(file="none.csv", setting="any", beside={"accuracy": "accuracy", "robustness_cw": "robustness"})
    with pytest.raises(UserError, match=r"none.csv has no row"):
        printed_beside(printed, "a")
    beside = printed_beside(printed.model_copy(update={"file": "short.csv"}), "a")
    assert {name: one.value for name, one in beside.items()} == {"accuracy": 1.0, "robustness_cw": None}


def test_what_a_paper_says_of_one_data_set_is_judged_on_that_alone() -> None:
    entries = [*load_experiments().values(), *load_figures().values()]
    claims = {claim.claim: claim.data for entry in entries for claim in getattr(entry, "claims", ())}
    for name, data in {"On MNIST, ": "mnist", "On CIFAR-10, ": "cifar10"}.items():
        assert {said_of for claim, said_of in claims.items() if claim.startswith(name)} == {data}


def test_every_paper_has_one_file() -> None:
    assert {"puma", "kaufmann_v1", "kaufmann_v2", "nieth"} <= {path.stem for path in EXPERIMENTS.glob("*.yaml")}


@pytest.mark.parametrize("preset", ["digits", "mnist", "cifar10"])
def test_every_table_is_planned_at_every_preset(preset: str) -> None:
    plan = make_plan(load_config({"preset": preset}), load_experiments())
    assert plan.problems == {}
    assert set(plan.targets) == {f"results/{table.target}" for table in load_experiments().values()}
