"""Figures of runs: their data by hand and by numpy, claims of curves, plans that share every run with the tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from made_up import Results, read_figure, summary
from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.job import Job, run_stage
from robustprune.core.registry import stage_classes
from robustprune.experiments.figures.curve_claims import CurveClaim
from robustprune.experiments.figures.curves import Curves, CurvesStage, PointSpec, SeriesSpec
from robustprune.experiments.figures.figure import FIGURE_FORMS
from robustprune.experiments.figures.lines import Curve
from robustprune.experiments.figures.validation_curves import ValidationCurvesStage, nearest_epoch, validation_curve
from robustprune.experiments.intervals import Sample
from robustprune.experiments.papers import load_experiments, load_figures
from robustprune.experiments.row import Row
from robustprune.experiments.runs import Run
from robustprune.experiments.tables.row_specs import RunSpec
from robustprune.generation.generated_pool import GeneratedPoolStage
from robustprune.planning.conditions import changed_by
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from test_every_table import SMALLEST
from tiny import all_figures, all_tables, spec_of, specs_of, write_experiments

ACCURACIES = {0.0: (0.90, 0.92, 0.94), 0.5: (0.93, 0.92, 0.97), 0.8: (0.80, 0.70, 0.75)}
"""By share dropped, of seeds 0, 1, 2."""


@pytest.fixture
def results(make_job: Callable[..., Job]) -> Results:
    return Results(make_job("figures", "figure-0000000000"))


def runs_of(results: Results, *accuracies: float) -> tuple[RunSpec, ...]:
    """A run of each seed, with that clean accuracy."""
    return tuple(results.run(seed, summary(value, 0.5, 0.4)) for seed, value in enumerate(accuracies))


def series(results: Results, method: str = "PUMA", **changes: tuple[float, ...]) -> SeriesSpec:
    """A series with ACCURACIES, those of ``at_0.5=...`` changed."""
    accuracies = {place: changes.get(f"at_{place}", values) for place, values in ACCURACIES.items()}
    points = (PointSpec(place=place, runs=runs_of(results, *values)) for place, values in accuracies.items())
    return SeriesSpec(method=method, points=tuple(points))


def level(results: Results, *accuracies: float) -> SeriesSpec:
    return SeriesSpec(method="TRADES", level=runs_of(results, *accuracies))


def curves_spec(*all_series: SeriesSpec, checks: tuple[dict[str, Any], ...] = ()) -> CurvesStage:
    claims = tuple(CurveClaim.model_validate({"claim": "A claim", "checks": [check]}) for check in checks)
    return CurvesStage(
        name="puma.figure7", title="Figure 7", quantities=("accuracy", "robustness_cw"), over="ratio", axis="share",
        classes=10, series=all_series, claims=claims,
    )  # fmt: skip


def test_the_data_of_curves_are_means_and_intervals_over_seeds(results: Results) -> None:
    curves_spec(series(results), level(results, 0.8, 0.9, 0.85)).run(results.job)
    picture, data, caption = read_figure(results.job.directory)
    accuracy = data[(data["series"] == "PUMA") & (data["quantity"] == "accuracy")].set_index("ratio")
    for place, values in ACCURACIES.items():
        interval = stats.ttest_1samp(100 * np.array(values), 0).confidence_interval(0.95)
        assert accuracy["mean"][place] == pytest.approx(100 * np.mean(values))
        assert accuracy["ci95_seeds"][place] == pytest.approx((interval.high - interval.low) / 2)
    assert (data["n"] == 3).all()
    assert data[data["series"] == "TRADES"]["ratio"].isna().all()
    assert "clean accuracy, %" in picture
    assert "share" in picture
    assert "n = 3 runs. Test images: 100 (autoattack), 500 (clean), 500 (cw)." in caption


def test_a_single_run_is_told_to_have_no_interval(results: Results) -> None:
    points = tuple(PointSpec(place=place, runs=(results.run(0),)) for place in (0.0, 0.5))
    curves_spec(SeriesSpec(method="PUMA", points=points)).run(results.job)
    _, data, caption = read_figure(results.job.directory)
    assert data["ci95"].isna().all()
    assert "a single run each, without an interval" in caption


@pytest.mark.parametrize(
    ("check", "difference", "verdict"),
    [
        ({"row": "PUMA", "at": 0.8, "below": "PUMA", "other_at": 0.0}, [-10, -22, -19], "agrees"),
        ({"row": "PUMA", "at": 0.8, "above": "TRADES"}, [-10, -11, -10], "disagrees"),
        ({"row": "PUMA", "at": 0.5, "above": 93}, [0, -1, 4], "cannot tell"),
        ({"row": "PUMA", "feature": "peak", "below": "fixed"}, [0, -0.5, 0], "cannot tell"),
        ({"row": "PUMA", "feature": "mean", "near": "fixed", "within": 3}, [0, -7 / 3, 0], "cannot tell"),
        ({"row": "PUMA", "feature": "mean", "near": "fixed", "within": 5}, [0, -7 / 3, 0], "agrees"),
    ],
)
def test_claims_of_curves_go_by_the_differences_seed_by_seed(
    results: Results, check: dict[str, Any], difference: list[float], verdict: str
) -> None:
    fixed = series(results, "fixed", **{"at_0.5": (0.93, 0.99, 0.97)})  # differs from PUMA in seed 1 alone
    all_series = series(results), fixed, level(results, 0.9, 0.81, 0.85)
    spec = curves_spec(*all_series, checks=({"quantity": "accuracy", **check},))
    (judged,) = spec.run(results.job)["claims"]
    assert judged["verdict"] == verdict
    assert f"{np.mean(difference):+.2f}" in judged["found"][0]
    _, _, caption = read_figure(results.job.directory)
    assert f"Claimed: A claim. Measured: {judged['found'][0]}. This run {verdict}" in caption


def test_a_claim_of_every_place_is_one_finding(results: Results) -> None:
    check = {"quantity": "accuracy", "row": "PUMA", "at": "every", "above": "TRADES"}
    spec = curves_spec(series(results), level(results, 0.5, 0.4, 0.45), checks=(check, {**check, "above": 85}))
    agrees, disagrees = spec.run(results.job)["claims"]
    assert (agrees["verdict"], disagrees["verdict"]) == ("agrees", "cannot tell")
    assert "everywhere: 3 of 3 places agree, 0 disagree" in agrees["found"][0]
    assert "everywhere: 2 of 3 places agree, 0 disagree" in disagrees["found"][0]


def test_how_straight_a_curve_is_is_scipys() -> None:
    places, values = [1.0, 2.0, 4.0], np.array([[3.0, 5.0, 9.0], [1.0, 7.0, 5.0]])
    cells = [{"accuracy": Sample(dict(enumerate(column)))} for column in values.T]
    found = Curve(dict(zip(places, cells, strict=True))).feature("accuracy", "linearity")
    assert isinstance(found, Sample)
    expected = [stats.pearsonr(places, row).statistic ** 2 for row in values]
    assert found.summary.mean == pytest.approx(np.mean(expected))
    assert found.summary.std == pytest.approx(np.std(expected, ddof=1))


def validation_curves_spec(check: dict[str, Any], *all_series: SeriesSpec) -> ValidationCurvesStage:
    claim = {"claim": "A claim", "checks": [{"quantity": "validation_pgd", **check}]}
    return ValidationCurvesStage(
        name="puma.figure5", title="Figure 5", quantities=("validation_clean", "validation_pgd"), series=all_series,
        claims=(CurveClaim.model_validate(claim),),
    )  # fmt: skip


def test_a_validation_curve_is_what_the_trainings_validated(results: Results) -> None:
    histories = [
        {"epoch": [1, 2, 3, 4], "validation_clean": [None, 0.5, None, 0.7], "validation_pgd": [None, 0.1, None, last]}
        for last in (0.3, 0.5)
    ]
    runs = tuple(results.run(seed, history=history) for seed, history in enumerate(histories))
    spec = validation_curves_spec({"row": "PD", "at": 1.0, "above": 20}, SeriesSpec(method="PD", level=runs))
    facts = spec.run(results.job)
    picture, data, caption = read_figure(results.job.directory)
    validated = data[data["images"] == "validation"].pivot_table("mean", "epoch", "quantity")
    assert validated.to_dict("index") == {
        2.0: {"validation_clean": 50.0, "validation_pgd": 10.0},
        4.0: {"validation_clean": 70.0, "validation_pgd": 40.0},
    }
    tested = data[data["images"] == "test"].set_index("quantity")["mean"]
    assert tested.to_dict() == pytest.approx({"validation_clean": 90, "validation_pgd": 60})
    (found,) = facts["claims"][0]["found"]
    assert "of PD at epoch 4 above 20.0: +20.00 +- 127.06 (n = 2): cannot tell (3 more seeds would decide)" in found
    assert "epoch" in picture
    assert "held out from training" in caption


def test_a_place_along_a_training_is_the_nearest_validated_epoch() -> None:
    curve = Curve({float(epoch): {} for epoch in (10, 20, 30, 40)})
    assert [nearest_epoch(curve, share) for share in (0.01, 0.3, 0.375, 1)] == [10, 10, 10, 40]


def test_the_end_of_a_training_is_compared_with_the_end_of_the_other(results: Results) -> None:
    all_series = []
    for method, epochs, seeds in (("short", 2, (0, 1)), ("long", 4, (2, 3))):
        places = np.arange(1, epochs + 1)
        history = {"epoch": places, "validation_clean": 0.2 * places, "validation_pgd": 0.1 * places}
        runs = tuple(results.run(seed, history=history) for seed in seeds)
        all_series.append(SeriesSpec(method=method, level=runs))
    spec = validation_curves_spec({"row": "short", "at": 1.0, "below": "long"}, *all_series)
    (claim,) = spec.run(results.job)["claims"]
    assert "of short at epoch 2 below long at epoch 4: -20.00" in claim["found"][0]


def test_only_epochs_that_all_seeds_have_are_in_a_validation_curve(results: Results) -> None:
    epochs = [{"epoch": [1, 2], "validation_clean": [0.1, 0.2]}, {"epoch": [1, 2], "validation_clean": [None, 0.4]}]
    runs = [Run(results.job, results.run(seed, history=history)) for seed, history in enumerate(epochs)]
    assert list(validation_curve(runs, ("validation_clean",)).points) == [2.0]


def plan_of(name: str, overrides: dict[str, Any] | None = None) -> Plan:
    return make_plan(load_config(overrides or {}), {}, {name: load_figures()[name]})


@pytest.mark.parametrize("preset", ["digits", "mnist", "cifar10"])
def test_every_figure_is_planned_at_every_preset(preset: str) -> None:
    plan = all_figures(preset)
    assert plan.problems == {}
    assert set(plan.targets) == {f"results/{one.target}" for one in load_figures().values()}


def test_all_papers_have_their_figures() -> None:
    targets = {figure.target for figure in load_figures().values()}
    for paper, last in {"puma": 9, "kaufmann_v1": 8, "kaufmann_v2": 6, "nieth": 5}.items():  # 7 and 8 of v2 are tables
        assert {f"{paper}/figure{number}.svg" for number in range(1, last + 1)} <= targets


def test_a_quantity_that_no_attack_of_the_figure_measures_is_refused_while_planning() -> None:
    row = Row(method="PUMA", strategy="puma")
    keys: dict[str, Any] = {
        "form": "curves", "title": "f", "target": "f.svg", "quantities": ("accuracy", "autoattack"),
        "over": "ratio", "values": (0.1, 0.2), "axis": "share", "series": (row,),
    }  # fmt: skip
    with pytest.raises(ValueError, match="autoattack is measured under autoattack"):
        Curves(**keys, attacks=("cw",))
    with pytest.raises(UserError, match="autoattack is measured under autoattack"):
        make_plan(load_config({"evaluation": {"attacks": ["cw"]}}), {}, {"f.f": Curves(**keys)})


def test_a_figure_has_the_very_runs_of_the_tables() -> None:
    tables = all_tables("digits")
    figure = plan_of("puma.figure6")
    models = {stage for stage, spec in figure.stages.items() if spec.kind == "models"}
    assert len(models & set(tables.stages)) == 10  # nothing, PE 22 % and random 22 % of each seed, and CD's
    (spec,) = specs_of(figure, ValidationCurvesStage)
    assert len(spec.series) == 6


def test_figures_of_kaufmann_share_runs_with_each_other_and_with_the_tables() -> None:
    figures = {name: figure for name, figure in load_figures().items() if name.startswith("kaufmann")}
    plan = make_plan(load_config({"seeds": [0]}), load_experiments(), figures)

    def models(target: str) -> set[str]:
        needed = plan.needed_for([plan.targets[f"results/{target}"]])
        return {stage for stage in needed if plan.stages[stage].kind == "models"}

    assert len(models("kaufmann_v2/figure3.svg")) == 7 * 7 + 1  # seven ways at seven shares, and everything kept
    assert models("kaufmann_v2/figure4.svg") == models("kaufmann_v2/figure3.svg")
    for part in ("figure2.svg", "figure5.svg", "figure6.svg", "table1.csv", "figure8.csv"):
        assert models(f"kaufmann_v2/{part}") <= models("kaufmann_v2/figure3.svg"), part
    assert models("kaufmann_v1/table1.csv") <= models("kaufmann_v1/figure3.svg")
    assert models("kaufmann_v1/figure5.svg") <= models("kaufmann_v1/figure3.svg")
    assert models("kaufmann_v1/figure2.svg") <= models("kaufmann_v1/figure7.svg")
    assert len(models("kaufmann_v1/figure1.svg")) == 2 * 6


def test_where_nothing_is_dropped_a_curve_has_the_model_without_pruning() -> None:
    row = Row(method="PE", strategy="prune_easy", score="difficulty", ratio=0.2, among="synthetic")
    assert row.at("ratio", 0) == Row(method="PE at 0")
    assert row.at("ratio", 0.3).ratio == 0.3
    puma = Row(method="PUMA", strategy="puma", radius="margin", margin_model="theirs", architecture="wide")
    bare = Row(method="PUMA at 0", radius="margin", margin_model="theirs", architecture="wide")
    assert puma.at("ratio", 0) == bare
    midway = Row.model_validate(
        {"method": "low", "recipe": "rs_fgsm", "mid_training": {"keep": 0.5, "strategy": "low_loss", "after_epoch": 3}}
    )
    assert midway.at("mid_training.keep", 1) == Row(method="low at 1", recipe="rs_fgsm")
    changed = midway.at("mid_training.after_epoch", 2).mid_training
    assert changed is not None
    assert (changed.after_epoch, changed.keep) == (2, 0.5)


def test_more_or_fewer_images_are_drawn_from_the_same_generator() -> None:
    plan = plan_of("puma.figure7")
    pools = specs_of(plan, GeneratedPoolStage)
    assert sorted(spec.count for spec in pools) == [1000, 5000, 50_000]
    assert len({spec.generator for spec in pools}) == 1


def test_images_of_a_file_cannot_be_drawn_again() -> None:
    row = Row(method="more", drawn=10)
    few = {"subsets": {"few": {"of": "npz:mine.npz", "count": 5}}, "synthetic": {"source": "subset:few"}}
    config = load_config(few)
    with pytest.raises(UserError, match=r"more: drawn = 10 .*subset:few"):
        changed_by(row.conditions, config, origin="more")


def test_a_validation_curve_needs_validations() -> None:
    with pytest.raises(UserError, match=r"No pruning: .* training.trades has none; set its validation"):
        plan_of("puma.figure5", {"training": {"trades": {"validation_images": 0}}})


FIGURE: dict[str, Any] = {
    "form": "curves", "title": "Mine", "target": "mine/first.svg", "quantities": ["accuracy"], "over": "ratio",
    "values": [0.1, 0.5], "axis": "share dropped", "series": [{"method": "random", "strategy": "random"}],
}  # fmt: skip
CHECK = {"quantity": "accuracy", "row": "random", "at": 0.1, "above": 5}


def claims(**changes: Any) -> dict[str, Any]:
    return {"claims": [{"claim": "c", "checks": [{**CHECK, **changes}]}]}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"values": [0.5, 0.1]}, "values = [0.5, 0.1] should rise"),
        ({"values": [0.5, 1]}, "'random' with ratio = 1: ratio = 1.0 should be at least 0, and below 1"),
        ({"seriez": []}, "first.seriez: there is no such key (did you mean 'series'?)"),
        ({"series": [{"method": "r", "seeds": 1}]}, "first.series.0.seeds = 1: there is no such key; allowed are"),
        ({"series": [{"methood": "r"}]}, "series.0.methood = 'r': there is no such key (did you mean 'method'?)"),
        (
            {"series": [{"method": "r", "margin_model": {"method": "m", "strateggy": "puma"}}]},
            "series.0.margin_model.strateggy = 'puma': there is no such key (did you mean 'strategy'?)",
        ),
        ({"claims": [{"clam": "c", "checks": [CHECK]}]}, "claims.0.clam = 'c': there is no such key (did you mean"),
        ({"over": "ratios"}, "'random' with ratios = 0.1: there is no such key (did you mean 'ratio'?)"),
        ({"quantities": ["speed_steps"]}, "quantities: speed_steps"),
        ({"beside": [{"method": "random"}]}, "two methods have the same name: random, random"),
        ({"form": "curve"}, "there is no figure form 'curve' (did you mean 'curves'?)"),
        ({"form": None}, "there is no figure form 'None'; allowed are curves, distributions,"),
        ({"rows": []}, "first.rows: there is no such key; allowed are form, title, target, weights, attacks, claims,"),
        ({"claim": "c"}, "first.claim = 'c': there is no such key (did you mean 'claims'?)"),
        (claims(row="PE"), "claims: there is no 'PE'; there are random"),
        (claims(at=0.2), "at = 0.2 is not among the values 0.1, 0.5"),
        (claims(at=None), "of 'random' it should say at which place"),
        (claims(quantity="autoattack"), "no panel of autoattack"),
        (claims(feature="peak"), "at = 0.1 goes with feature = value"),
    ],
)
def test_what_is_wrong_in_a_figure_is_told_in_one_sentence(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    write_experiments(tmp_path, figures={"first": {**FIGURE, **changes}})
    with pytest.raises(UserError) as caught:
        load_figures(tmp_path)
    assert says in str(caught.value)
    assert str(caught.value).startswith("mine.yaml: figures.first")
    assert "\n" not in str(caught.value)


def test_the_figures_of_the_page_are_planned(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "figures.md").read_text()
    blocks = [block.split("```")[0] for block in page.split("```yaml\n")[1:]]
    for number, block in enumerate(blocks):
        (tmp_path / f"{number}.yaml").write_text(block)
    plan = make_plan(load_config({}), {}, load_figures(tmp_path))
    assert set(plan.targets) == {"results/mine/first.svg", "results/mine/scores.svg"}
    spec = spec_of(plan, plan.targets["results/mine/first.svg"], CurvesStage)
    assert [(one.method, len(one.points)) for one in spec.series] == [
        ("random", 4), ("PUMA", 4), ("the best scores alone", 0),
    ]  # fmt: skip


MADE_HERE = {
    name: figure
    for name, figure in load_figures().items()
    if figure.form not in ("perceptron", "phase_map", "clouds", "feature_model")  # these are the same at every scale
    and not name.startswith("kaufmann")  # test_kaufmann_figures.py makes these, with as many epochs as they need
}


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_every_figure_is_really_made_at_the_smallest_scale(tmp_path: Path) -> None:
    plan = make_plan(load_config(SMALLEST), {}, MADE_HERE, results=tmp_path)
    assert plan.problems == {}
    plan.write_specs()
    for stage in plan.needed_for(plan.targets.values()):
        run_stage(plan.directory(stage) / "spec.json", Execution(device="cpu"))
    for target, stage in plan.targets.items():
        picture, data, caption = read_figure(plan.directory(stage))
        assert "</svg>" in picture, target
        assert len(data) > 1, target
        assert "nan" not in caption, target


@pytest.mark.parametrize("name", list(FIGURE_FORMS))
def test_a_form_of_figure_is_declared_in_the_file_of_its_stage(name: str) -> None:
    entry = FIGURE_FORMS[name]
    (stage,) = (found for found in stage_classes() if found.__module__ == entry.__module__)
    assert stage.kind_name() == "figures"
    assert stage.model_fields["form"].default == name
