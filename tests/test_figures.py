"""Figures of runs: their data by hand and by numpy, claims of curves, plans that share every run with the tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from made_up import Results, summary
from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.job import Job, run_stage
from robustprune.core.paths import CAPTION_FILE, FIGURE_DATA_FILE, FIGURE_FILE
from robustprune.core.registry import stage_classes
from robustprune.experiments.figures.curve_claims import CurveClaim
from robustprune.experiments.figures.curves import Curves, CurvesStage, PointSpec, SeriesSpec
from robustprune.experiments.figures.figure import FIGURE_FORMS
from robustprune.experiments.figures.lines import Curve
from robustprune.experiments.figures.validation_curves import ValidationCurvesStage, nearest_epoch, validation_curve
from robustprune.experiments.files import load_experiments, load_figures
from robustprune.experiments.intervals import Sample
from robustprune.experiments.row import Row
from robustprune.experiments.runs import Run
from robustprune.generation.generated_pool import GeneratedPoolStage
from robustprune.planning.conditions import changed_by
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from test_every_table import SMALLEST
from tiny import all_figures, all_tables

ACCURACIES = {0.0: (0.90, 0.92, 0.94), 0.5: (0.93, 0.92, 0.97), 0.8: (0.80, 0.70, 0.75)}
"""By share dropped, of seeds 0, 1, 2."""


@pytest.fixture
def results(make_job: Callable[..., Job]) -> Results:
    return Results(make_job("figures", "figure-0000000000"))


def series(results: Results, method: str = "PUMA", shift: float = 0.0) -> SeriesSpec:
    points = [
        PointSpec(
            place=place,
            runs=tuple(
                results.run(seed, summary(value + shift * (1 + seed / 4), 0.5, 0.4))
                for seed, value in enumerate(values)
            ),
        )
        for place, values in ACCURACIES.items()
    ]
    return SeriesSpec(method=method, points=tuple(points))


def level(results: Results, *accuracies: float) -> SeriesSpec:
    runs = tuple(results.run(seed, summary(value, 0.5, 0.4)) for seed, value in enumerate(accuracies))
    return SeriesSpec(method="TRADES", level=runs)


def curves_spec(*all_series: SeriesSpec, checks: tuple[dict[str, Any], ...] = ()) -> CurvesStage:
    claims = tuple(CurveClaim.model_validate({"claim": "A claim", "checks": [check]}) for check in checks)
    return CurvesStage(
        name="puma.figure7", title="Figure 7", quantities=("accuracy", "robustness_cw"), over="ratio", axis="share",
        classes=10, series=all_series, claims=claims,
    )  # fmt: skip


def read_back(directory: Path) -> tuple[str, pd.DataFrame, str]:
    """The picture, its data and its caption."""
    picture, caption = ((directory / name).read_text() for name in (FIGURE_FILE, CAPTION_FILE))
    return picture, pd.read_csv(directory / FIGURE_DATA_FILE), caption


def test_the_data_of_curves_are_means_and_intervals_over_seeds(results: Results) -> None:
    curves_spec(series(results), level(results, 0.8, 0.9, 0.85)).run(results.job)
    picture, data, caption = read_back(results.job.directory)
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
    _, data, caption = read_back(results.job.directory)
    assert data["ci95"].isna().all()
    assert "a single run each, without an interval" in caption


@pytest.mark.parametrize(
    ("check", "difference", "verdict"),
    [
        ({"row": "PUMA", "at": 0.8, "below": "PUMA", "other_at": 0.0}, [-10, -22, -19], "agrees"),
        ({"row": "PUMA", "at": 0.8, "above": "TRADES"}, [-10, -11, -10], "disagrees"),
        ({"row": "PUMA", "at": 0.5, "above": 93}, [0, -1, 4], "cannot tell"),
        ({"row": "PUMA", "feature": "peak", "below": "fixed"}, [0, -0.5, 0], "cannot tell"),
        ({"row": "PUMA", "feature": "mean", "near": "fixed", "within": 5}, [2.4, 3, 3.6], "agrees"),
    ],
)
def test_claims_of_curves_go_by_the_differences_seed_by_seed(
    results: Results, check: dict[str, Any], difference: list[float], verdict: str
) -> None:
    own, other = series(results), series(results, "fixed", shift=-0.024)
    if check["row"] == "PUMA" and check.get("feature") == "peak":  # of seed 1 at the other place
        other = series(results, "fixed", shift=0.0)
        runs = tuple(results.run(seed, summary(value, 0.5, 0.4)) for seed, value in enumerate((0.93, 0.99, 0.97)))
        other = SeriesSpec(method="fixed", points=(other.points[0], PointSpec(place=0.5, runs=runs), other.points[2]))
    spec = curves_spec(own, other, level(results, 0.9, 0.81, 0.85), checks=({"quantity": "accuracy", **check},))
    (judged,) = spec.run(results.job)["claims"]
    assert judged["verdict"] == verdict
    assert f"{np.mean(difference):+.2f}" in judged["found"][0]
    _, _, caption = read_back(results.job.directory)
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


# Courses.


def test_a_course_is_what_the_trainings_validated(results: Results) -> None:
    histories = [
        {"epoch": [1, 2, 3, 4], "validation_clean": [None, 0.5, None, 0.7], "validation_pgd": [None, 0.1, None, last]}
        for last in (0.3, 0.5)
    ]
    runs = tuple(results.run(seed, history=history) for seed, history in enumerate(histories))
    claim = CurveClaim.model_validate(
        {"claim": "It grows", "checks": [{"quantity": "validation_pgd", "row": "PD", "at": 1.0, "above": 20}]}
    )
    spec = ValidationCurvesStage(
        name="puma.figure5", title="Figure 5", quantities=("validation_clean", "validation_pgd"),
        series=(SeriesSpec(method="PD", level=runs),), claims=(claim,),
    )  # fmt: skip
    facts = spec.run(results.job)
    picture, data, caption = read_back(results.job.directory)
    course = data[data["images"] == "validation"].pivot_table("mean", "epoch", "quantity")
    assert course.to_dict("index") == {
        2.0: {"validation_clean": 50.0, "validation_pgd": 10.0},
        4.0: {"validation_clean": 70.0, "validation_pgd": 40.0},
    }
    tested = data[data["images"] == "test"].set_index("quantity")["mean"]
    assert tested.to_dict() == pytest.approx({"validation_clean": 90, "validation_pgd": 60})
    assert facts["claims"][0]["found"] == (
        "robustness under C&W, % of PD at epoch 4 above 20.0: +20.00 +- 127.06 (n = 2): cannot tell "
        "(3 more seeds would decide)",
    )
    assert "epoch" in picture
    assert "held out from training" in caption


def test_a_place_along_a_training_is_the_nearest_validated_epoch() -> None:
    curve = Curve({float(epoch): {} for epoch in (10, 20, 30, 40)})
    assert [nearest_epoch(curve, share) for share in (0.01, 0.3, 0.375, 1)] == [10, 10, 10, 40]


def test_the_end_of_a_training_is_compared_with_the_end_of_the_other(results: Results) -> None:
    short, long = (
        {"epoch": list(range(1, epochs + 1)), "validation_pgd": [0.1 * epoch for epoch in range(1, epochs + 1)]}
        for epochs in (2, 4)
    )
    check = {"quantity": "validation_pgd", "row": "short", "at": 1.0, "below": "long"}
    spec = ValidationCurvesStage(
        name="puma.figure5", title="Figure 5", quantities=("validation_pgd",),
        series=tuple(
            SeriesSpec(method=method, level=tuple(results.run(seed, history=history) for seed in seeds))
            for method, history, seeds in (("short", short, (0, 1)), ("long", long, (2, 3)))
        ),
        claims=(CurveClaim.model_validate({"claim": "It helps", "checks": [check]}),),
    )  # fmt: skip
    (claim,) = spec.run(results.job)["claims"]
    assert "of short at epoch 2 below long at epoch 4: -20.00" in claim["found"][0]


def test_only_epochs_that_all_seeds_have_are_in_a_course(results: Results) -> None:
    epochs = [{"epoch": [1, 2], "validation_clean": [0.1, 0.2]}, {"epoch": [1, 2], "validation_clean": [None, 0.4]}]
    runs = [Run(results.job, results.run(seed, history=history)) for seed, history in enumerate(epochs)]
    assert list(validation_curve(runs, ("validation_clean",)).points) == [2.0]


# Plans.


def plan_of(name: str) -> Plan:
    return make_plan(load_config({}), {}, {name: load_figures()[name]})


@pytest.mark.parametrize("preset", ["digits", "mnist", "cifar10"])
def test_every_figure_is_planned_at_every_preset(preset: str) -> None:
    plan = all_figures(preset)
    assert plan.problems == {}
    assert {Path(target) for target in plan.targets} == {
        Path("results") / one.target for one in load_figures().values()
    }


def test_all_papers_have_their_figures() -> None:
    targets = {figure.target for figure in load_figures().values()}
    assert {f"puma/figure{number}.svg" for number in range(1, 10)} <= targets
    assert {f"kaufmann_v1/figure{number}.svg" for number in range(1, 9)} <= targets
    assert {f"kaufmann_v2/figure{number}.svg" for number in range(1, 7)} <= targets  # 7 and 8 are tables
    assert {f"nieth/figure{number}.svg" for number in range(1, 6)} <= targets


def test_a_quantity_that_no_attack_of_the_figure_measures_is_told_of_before_anything_runs() -> None:
    row = Row(method="PUMA", strategy="puma")
    keys: dict[str, Any] = {
        "form": "curves", "title": "f", "target": "f.svg", "quantities": ("accuracy", "autoattack"),
        "over": "ratio", "values": (0.1, 0.2), "axis": "share", "series": (row,),
    }  # fmt: skip
    with pytest.raises(ValueError, match="autoattack is measured under autoattack, and attacks = cw"):
        Curves(**keys, attacks=("cw",))
    with pytest.raises(UserError, match="autoattack is measured under autoattack, and attacks = cw"):
        make_plan(load_config({"evaluation": {"attacks": ["cw"]}}), {}, {"f.f": Curves(**keys)})


def test_a_figure_has_the_very_runs_of_the_tables() -> None:
    tables = all_tables("digits")
    figure = plan_of("puma.figure6")
    models = {stage for stage, spec in figure.stages.items() if spec.kind == "models"}
    assert len(models & set(tables.stages)) == 10  # nothing, PE 22 % and random 22 % of each seed, and CD's
    (stage,) = figure.targets.values()
    spec = figure.stages[stage]
    assert isinstance(spec, ValidationCurvesStage)
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
    pools = [spec for spec in plan.stages.values() if isinstance(spec, GeneratedPoolStage)]
    assert sorted(spec.count for spec in pools) == [1000, 5000, 50_000]
    assert len({spec.generator for spec in pools}) == 1


def test_images_of_a_file_cannot_be_drawn_again() -> None:
    row = Row(method="more", drawn=10)
    few = {"subsets": {"few": {"of": "npz:mine.npz", "count": 5}}, "synthetic": {"source": "subset:few"}}
    config = load_config(few)
    with pytest.raises(UserError, match=r"more: drawn = 10 .*subset:few"):
        changed_by(row.conditions, config, origin="more")


def test_a_course_needs_validations() -> None:
    figures = {name: figure for name, figure in load_figures().items() if name == "puma.figure5"}
    config = load_config({"training": {"trades": {"validation_images": 0}}})
    with pytest.raises(UserError, match=r"No pruning: its course is .* training.trades has none; set its validation"):
        make_plan(config, {}, figures)


FIGURE: dict[str, Any] = {
    "form": "curves", "title": "Mine", "target": "mine/first.svg", "quantities": ["accuracy"], "over": "ratio",
    "values": [0.1, 0.5], "axis": "share dropped", "series": [{"method": "random", "strategy": "random"}],
}  # fmt: skip
CHECK = {"quantity": "accuracy", "row": "random", "at": 0.1, "above": 5}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"values": [0.5, 0.1]}, "figures.first: values = [0.5, 0.1] should rise"),
        ({"values": [0.5, 1]}, "figures.first: 'random' with ratio = 1: ratio = 1.0 should be at least 0, and below 1"),
        ({"seriez": []}, "figures.first.seriez: there is no such key (did you mean 'series'?)"),
        (
            {"series": [{"method": "r", "seeds": 1}]},
            "figures.first.series.0.seeds = 1: there is no such key; allowed are",
        ),
        ({"series": [{"methood": "r"}]}, "series.0.methood = 'r': there is no such key (did you mean 'method'?)"),
        (
            {"series": [{"method": "r", "margin_model": {"method": "m", "strateggy": "puma"}}]},
            "series.0.margin_model.strateggy = 'puma': there is no such key (did you mean 'strategy'?)",
        ),
        (
            {"claims": [{"clam": "c", "checks": [CHECK]}]},
            "claims.0.clam = 'c': there is no such key (did you mean 'claim'",
        ),
        ({"over": "ratios"}, "'random' with ratios = 0.1: there is no such key (did you mean 'ratio'?)"),
        ({"quantities": ["speed_steps"]}, "figures.first: quantities: speed_steps is no number of a run"),
        ({"beside": [{"method": "random"}]}, "figures.first: two methods have the same name: random, random"),
        ({"form": "curve"}, "figures.first: there is no figure form 'curve' (did you mean 'curves'?)"),
        ({"form": None}, "figures.first: there is no figure form 'None'; allowed are curves, distributions,"),
        (
            {"rows": []},
            "figures.first.rows: there is no such key; allowed are form, title, target, weights, attacks, claims,",
        ),
        ({"claim": "c"}, "figures.first.claim = 'c': there is no such key (did you mean 'claims'?)"),
        (
            {"claims": [{"claim": "c", "checks": [{**CHECK, "row": "PE"}]}]},
            "claims: there is no 'PE'; there are random",
        ),
        ({"claims": [{"claim": "c", "checks": [{**CHECK, "at": 0.2}]}]}, "at = 0.2 is not among the values 0.1, 0.5"),
        ({"claims": [{"claim": "c", "checks": [{**CHECK, "at": None}]}]}, "of 'random' it should say at which place"),
        ({"claims": [{"claim": "c", "checks": [{**CHECK, "quantity": "autoattack"}]}]}, "no panel of autoattack"),
        ({"claims": [{"claim": "c", "checks": [{**CHECK, "feature": "peak"}]}]}, "at = 0.1 goes with feature = value"),
    ],
)
def test_what_is_wrong_in_a_figure_is_told_in_one_sentence(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"paper": "mine", "figures": {"first": {**FIGURE, **changes}}}))
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
    spec = plan.stages[plan.targets["results/mine/first.svg"]]
    assert isinstance(spec, CurvesStage)
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
        picture, data, caption = read_back(plan.directory(stage))
        assert "</svg>" in picture, target
        assert len(data) > 1, target
        assert "nan" not in caption, target


@pytest.mark.parametrize("name", list(FIGURE_FORMS))
def test_a_form_of_figure_is_declared_in_the_file_of_its_stage(name: str) -> None:
    entry = FIGURE_FORMS[name]
    (stage,) = (found for found in stage_classes() if found.__module__ == entry.__module__)
    assert stage.kind_name() == "figures"
    assert stage.model_fields["form"].default == name
