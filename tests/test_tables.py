"""Tables: their cells by hand and by numpy, the printed numbers against the papers' row and column names, claims."""

import math
import re
from collections.abc import Callable
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from made_up import TRAINED, Results, summary
from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.paths import REFERENCE
from robustprune.experiments.claim_settings import Claim
from robustprune.experiments.intervals import Cell, Sample
from robustprune.experiments.papers import load_experiments
from robustprune.experiments.tables import quantities as speed
from robustprune.experiments.tables.forms import Comparisons, Extrapolations, Hyperparameters, Layouts, Table
from robustprune.experiments.tables.printed import printed_row, read_printed
from robustprune.experiments.tables.quantity import QUANTITIES, QuantityName
from robustprune.experiments.tables.row_specs import Check, Printed, RowSpec, RunSpec
from robustprune.experiments.tables.table import TableStage
from robustprune.experiments.tables.table_rows import Shown, judge
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan, stages_of_target
from robustprune.training.model import ModelStage

IDS = {seed: f"trades-{seed:010x}" for seed in range(9)}
PUMA_TABLE_1 = Printed(
    file="puma_table1.csv", setting="CIFAR-10", beside={"accuracy": "accuracy", "robustness_cw": "robustness"}
)


class TableResults(Results):
    """The same, and the table that is made of them."""

    def table(self, *rows: RowSpec, **settings: Any) -> pd.DataFrame:
        """The CSV of a table of these rows, by method."""
        table_spec(*rows, **settings).run(self.job)
        return pd.read_csv(self.job.directory / "table.csv", keep_default_na=False, na_values=[""]).set_index("method")


def cell(table: pd.DataFrame, method: str, column: str) -> Any:
    return table.loc[method, column]


def table_spec(*rows: RowSpec, **settings: Any) -> TableStage:
    given: dict[str, Any] = {
        "name": "puma.table1", "title": "A table", "form": "methods", "classes": 10, "printed": None,
        "printed_digest": None, "claims": (), "quantities": ("accuracy", "robustness_cw", "autoattack"), **settings,
    }  # fmt: skip
    return TableStage(rows=rows, **{"setting": "digits", **given})


@pytest.fixture
def results(make_job: Callable[..., Job]) -> TableResults:
    return TableResults(make_job("tables", "table-0000000000"))


SUMMARIES = [summary(0.9, 0.6, 0.5), summary(0.92, 0.63, 0.52), summary(0.95, 0.61, 0.5)]


def test_mean_spread_and_number_of_runs_over_seeds(results: TableResults) -> None:
    runs = tuple(results.run(seed, evaluation) for seed, evaluation in enumerate(SUMMARIES))
    row = results.table(RowSpec(method="PUMA", runs=runs)).loc["PUMA"]
    assert row["accuracy_mean"] == round(mean([90, 92, 95]), 4)
    assert row["accuracy_std"] == round(stdev([90, 92, 95]), 4)
    assert row["robustness_cw_std"] == round(stdev([60, 63, 61]), 4)
    assert row["autoattack_median"] == 50
    interval = stats.ttest_1samp([90, 92, 95], 0).confidence_interval(0.95)
    assert row["accuracy_ci95_seeds"] == pytest.approx((interval.high - interval.low) / 2, abs=1e-4)
    assert (row[[f"{name}_n" for name in ("accuracy", "robustness_cw", "autoattack")]] == 3).all()


def test_one_run_has_no_spread(results: TableResults) -> None:
    table = results.table(RowSpec(method="PUMA", runs=(results.run(0),)))
    assert np.isnan(cell(table, "PUMA", "accuracy_std"))
    assert "90.00 (n = 1)" in (results.job.directory / "table.md").read_text()


def test_differences_to_the_baseline_are_paired_by_seed(results: TableResults) -> None:
    first = [results.run(seed, evaluation) for seed, evaluation in enumerate(SUMMARIES)]
    second = [results.run(seed, summary(0.8 + seed / 100, 0.5, 0.4)) for seed in (2, 0, 1)]
    table = results.table(
        RowSpec(method="TRADES", runs=tuple(first), baseline="TRADES"),
        RowSpec(method="PUMA", runs=tuple(second), baseline="TRADES"),
    )
    differences = [80 - 90, 81 - 92, 82 - 95]
    assert table.loc["PUMA", "accuracy_change_mean"] == round(mean(differences), 4)
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    half = (interval.high - interval.low) / 2
    assert table.loc["PUMA", "accuracy_change_ci95_seeds"] == pytest.approx(half, abs=1e-4)
    assert table.loc["PUMA", "accuracy_change_n"] == 3
    assert np.isnan(cell(table, "TRADES", "accuracy_change_mean"))


def test_rows_are_compared_with_the_baseline_of_their_own_norm(results: TableResults) -> None:
    rows = [("L2", 0.9, "L2"), ("L2, fewer", 0.8, "L2"), ("Linf", 0.7, "Linf"), ("Linf, fewer", 0.65, "Linf")]
    specs = (
        RowSpec(method=method, runs=(results.run(0, summary(accuracy, 0.5, 0.4)),), baseline=baseline)
        for method, accuracy, baseline in rows
    )
    table = results.table(*specs)
    assert table["accuracy_change_mean"].dropna().to_dict() == {"L2, fewer": -10, "Linf, fewer": -5}
    assert (
        "differences to L2 and Linf (the one of a row's own norm)" in (results.job.directory / "table.md").read_text()
    )


def test_nieths_rows_are_compared_in_their_own_norm() -> None:
    plan = make_plan(
        load_config({"preset": "cifar10"}), {name: PAPERS[name] for name in ("nieth.table1", "nieth.table2")}
    )
    for stage in plan.targets.values():
        spec = plan.stages[stage]
        assert isinstance(spec, TableStage)
        for row in spec.rows:
            assert row.baseline is not None
            assert row.baseline.partition(",")[0] == row.method.partition(",")[0]
            for threat in (model_of(plan, runs[0]).threat for runs in (row.runs, row.against)):
                assert threat is not None
                assert threat.norm == row.method.partition(",")[0]


def model_of(plan: Plan, run: RunSpec) -> ModelStage:
    assert run.model is not None
    spec = plan.stages[run.model]
    assert isinstance(spec, ModelStage)
    return spec


def test_a_claim_of_one_data_set_is_not_judged_on_another() -> None:
    claims = {}
    for preset in ("digits", "mnist", "cifar10"):
        plan = make_plan(load_config({"preset": preset}), {"kaufmann_v1.table1": PAPERS["kaufmann_v1.table1"]})
        (stage,) = plan.targets.values()
        spec = plan.stages[stage]
        assert isinstance(spec, TableStage)
        claims[preset] = [claim.claim.partition(",")[0] for claim in spec.claims]
    always = "Dropping 60 % of the images takes less time"
    assert claims == {"digits": [always], "mnist": ["On MNIST", always], "cifar10": ["On CIFAR-10", always]}


def test_printed_numbers_and_differences_stand_beside_ours(results: TableResults) -> None:
    rows = (
        RowSpec(method="PUMA", runs=(results.run(0),), printed="SOTA method using PUMA"),
        RowSpec(method="mine", runs=(results.run(0),)),
    )
    table = results.table(*rows, printed=PUMA_TABLE_1, printed_digest="0" * 64)
    assert table.loc["PUMA", "printed_accuracy"] == 91.37
    assert table.loc["PUMA", "printed_robustness_cw_std"] == 0.36
    assert table.loc["PUMA", "difference_accuracy"] == round(90 - 91.37, 4)
    assert "printed_autoattack" not in table
    assert table.loc["mine"].filter(like="printed").isna().all()
    page = (results.job.directory / "table.md").read_text()
    assert "91.37 +- 0.21" in page
    assert "-1.37" in page
    assert re.search(r"91.37 \+- 0.21 +& -1.37", (results.job.directory / "table.tex").read_text())


def test_where_spreads_differ_the_page_says_what_stands_beside_which_mean(results: TableResults) -> None:
    runs = tuple(results.run(seed, evaluation) for seed, evaluation in enumerate(SUMMARIES))
    row = RowSpec(method="random", runs=runs, printed="Random")
    of_kaufmann = Printed(file="kaufmann2_table1.csv", setting="MNIST", beside={"accuracy": "accuracy"})
    results.table(row, printed=of_kaufmann, printed_digest="0" * 64, quantities=("accuracy", "robustness_cw"))
    legend = [line for line in (results.job.directory / "table.md").read_text().splitlines() if line.startswith("+-")]
    assert legend == [
        "+- of clean accuracy, %: half of the 95 % interval of the mean over n runs, on these test images.",
        "+- of PGD on the CW margin, %: standard deviation over n runs.",
    ]


def test_latex_is_escaped(results: TableResults) -> None:
    results.table(RowSpec(method="22 % of_it & more", runs=(results.run(0),)))
    assert r"22 \% of\_it \& more" in (results.job.directory / "table.tex").read_text()


def test_characters_that_part_cells_or_have_no_glyph_are_written_out(results: TableResults) -> None:
    results.table(RowSpec(method="a | b > c", runs=(results.run(0),)))
    assert r"| a \| b > c " in (results.job.directory / "table.md").read_text()
    assert r" a \textbar{} b \ensuremath{>} c " in (results.job.directory / "table.tex").read_text()


def test_ours_and_the_papers_setting_stand_below(results: TableResults) -> None:
    results.table(RowSpec(method="all", runs=(results.run(0),)), setting="digits; cw in Linf of 3/20")
    assert "\nOurs: digits; cw in Linf of 3/20.\n" in (results.job.directory / "table.md").read_text()


def test_collapsed_runs_are_counted_where_all_runs_were_watched(results: TableResults) -> None:
    name = "catastrophic_overfitting_epoch"
    watched = [results.run(seed, training={**TRAINED, name: epoch}) for seed, epoch in enumerate((None, 4, 9))]
    columns = ("collapsed_runs",)
    assert cell(results.table(RowSpec(method="all", runs=tuple(watched)), quantities=columns), "all", *columns) == 2
    unwatched = RowSpec(method="all", runs=(*watched[1:], results.run(3)))
    assert "collapsed_runs" not in results.table(unwatched, quantities=(*columns, "accuracy"))


def test_runs_below_chance_are_counted(results: TableResults) -> None:
    runs = tuple(results.run(seed, summary(0.9, 0.6, robust)) for seed, robust in enumerate((0.0, 0.09, 0.1, 0.8)))
    table = results.table(RowSpec(method="all", runs=runs), quantities=("below_chance",))
    assert cell(table, "all", "below_chance") == 2


def test_of_a_model_that_was_trained_elsewhere_nothing_is_told_of_its_training(results: TableResults) -> None:
    columns: tuple[QuantityName, ...] = ("accuracy", "images_kept", "training_seconds", "collapsed_runs", "speed_epoch")
    foreign = results.run(0, training={"parameters": 38_282})
    table = results.table(RowSpec(method="theirs", runs=(foreign,), against=(foreign,)), quantities=columns)
    assert all(str(column).startswith("accuracy") for column in table)


def test_images_that_runs_keep_in_different_number_are_told_of_each_row_as_they_are(results: TableResults) -> None:
    alike = tuple(results.run(seed, training={"images_kept": 70}) for seed in (0, 1))
    online = tuple(results.run(seed, training={"images_kept": kept}) for seed, kept in ((2, 60), (3, 50)))
    rows = RowSpec(method="alike", runs=alike), RowSpec(method="online", runs=online)
    table = results.table(*rows, quantities=("images_kept",))
    assert cell(table, "alike", "images_kept") == 70
    assert (cell(table, "online", "images_kept_mean"), cell(table, "online", "images_kept_n")) == (55, 2)


# Speed, in the three senses.


def test_speed_is_the_baselines_cost_over_the_rows(results: TableResults) -> None:
    validated = {"epoch": range(1, 21), "validation_pgd": [0.1, 0.2, *[0.15] * 18]}
    slow = results.run(0, training={"training_seconds": 40.0, "steps": 300}, history=validated)
    improving = {"epoch": range(1, 11), "validation_pgd": np.linspace(0, 1, 10)}
    fast = results.run(0, training={"training_seconds": 10.0, "steps": 100}, history=improving)
    row = RowSpec(method="fast", runs=(fast,), against=(slow,))
    table = results.table(row, quantities=("speed_steps", "speed_stopped", "speed_epoch")).loc["fast"]
    assert table["speed_steps_mean"] == 3
    assert table["speed_epoch_mean"] == 2  # 40 s of 20 epochs, 10 s of 10
    assert table["speed_stopped_mean"] == 2 * 5 / (1 * 10)  # stopped after epoch 5: more than 2 since epoch 2


@pytest.mark.parametrize(
    ("accuracies", "stopped"),
    [
        ([0.1] * 100, 12),  # eleven epochs since the first are more than a tenth of a hundred
        (list(np.linspace(0, 1, 100)), 100),
        ([*np.linspace(0, 1, 50), *[0.5] * 50], 61),
        ([0.1, *[math.nan] * 9, 0.2, *[math.nan] * 89], 100),
        ([0.1, *[math.nan] * 9, 0.2, *[math.nan] * 29, 0.2, *[math.nan] * 59], 41),
        ([math.nan if epoch % 50 else epoch / 100 for epoch in range(1, 101)], 100),
    ],
    ids=["never better", "always better", "better for fifty", "twice validated", "then not better", "seldom validated"],
)
def test_early_stopping_by_hand(accuracies: list[float], stopped: int) -> None:
    history = pd.DataFrame({"epoch": range(1, 101), "validation_pgd": accuracies})
    assert speed.epochs_until_stopped(history) == stopped


def test_without_a_validation_nothing_is_stopped_early() -> None:
    assert speed.epochs_until_stopped(pd.DataFrame({"epoch": [1, 2], "loss": [1.0, 1.0]})) == 0


# Claims.


def sample(*values: float) -> Sample:
    return Sample(dict(enumerate(values)))


CELLS: dict[str, Cell] = {
    "high": sample(90, 91, 92), "low": sample(80, 81, 82.5), "wild": sample(20, 99, 50), "one": sample(95),
    "none": None, "other seeds": Sample({7: 80, 8: 81, 9: 82}), "number": 85.0,
    "flat": sample(98.33, 98.33), "flat, too": sample(98.06, 98.06), "steps": Sample({0: 2, 1: 2}, exact=True),
}  # fmt: skip

VERDICTS = [
    ({"row": "high", "above": "low"}, "agrees"),
    ({"row": "high", "below": "low"}, "disagrees"),
    ({"row": "low", "above": "high"}, "disagrees"),
    ({"row": "high", "above": "wild"}, "cannot tell"),
    ({"row": "one", "above": "low"}, "cannot tell"),  # one run has no interval
    ({"row": "none", "above": "low"}, "cannot tell"),
    ({"row": "high", "above": "other seeds"}, "agrees"),  # by Welch's interval
    ({"row": "high", "near": "low", "within": 20}, "agrees"),
    ({"row": "high", "near": "low", "within": 5}, "disagrees"),
    ({"row": "high", "near": "low", "within": 9.7}, "cannot tell"),
    ({"row": "low", "above": "high", "within": 20}, "agrees"),
    ({"row": "high", "above": "low", "within": 1}, "agrees"),  # further above than that does no harm
    ({"row": "low", "above": "high", "within": 5}, "disagrees"),
    ({"row": "high", "below": "low", "within": 5}, "disagrees"),
    ({"row": "low", "below": "high", "within": 1}, "agrees"),
    ({"row": "high", "below": "low", "within": 9.7}, "cannot tell"),
    ({"row": "high", "above": 85.0}, "agrees"),
    ({"row": "wild", "above": 50.0}, "cannot tell"),
    ({"row": "flat", "above": "flat, too"}, "cannot tell"),  # nor have measured numbers that do not spread
    ({"row": "flat", "above": 50.0}, "cannot tell"),
    ({"row": "steps", "above": 1.5}, "agrees"),  # but what chance has no part in is as it is
    ({"row": "steps", "near": 2.0, "within": 0.1}, "agrees"),
    ({"row": "number", "below": 86.0}, "agrees"),
    ({"row": "number", "below": 85.0}, "cannot tell"),
]


@pytest.mark.parametrize(("check", "verdict"), VERDICTS, ids=str)
def test_verdicts(check: dict[str, Any], verdict: str) -> None:
    claim = Claim[Check](claim="c", checks=(Check(quantity="accuracy", **check),))
    judged = judge(claim, {method: {"accuracy": cell} for method, cell in CELLS.items()})
    assert judged.verdict == verdict
    assert f": {verdict}" in judged.found[0]


def test_a_claim_is_as_good_as_its_checks() -> None:
    rows: dict[str, Shown] = {method: {"accuracy": cell} for method, cell in CELLS.items()}
    good, bad, open_ = ({"row": "high", "above": other} for other in ("low", 95.0, "wild"))

    def verdict(*checks: dict[str, Any]) -> str:
        return judge(
            Claim[Check](claim="c", checks=tuple(Check(quantity="accuracy", **check) for check in checks)), rows
        ).verdict

    assert [verdict(good), verdict(good, open_), verdict(open_, bad), verdict(good, bad)] == [
        "agrees", "cannot tell", "disagrees", "disagrees",
    ]  # fmt: skip


def test_verdicts_are_in_the_pages_and_the_record(results: TableResults) -> None:
    claim = Claim[Check](claim="It is good", checks=(Check(quantity="accuracy", row="PUMA", above=10),))
    runs = tuple(results.run(seed, evaluation) for seed, evaluation in enumerate(SUMMARIES))
    facts = table_spec(RowSpec(method="PUMA", runs=runs), claims=(claim,)).run(results.job)
    assert [one["verdict"] for one in facts["claims"]] == ["agrees"]
    pages = [(results.job.directory / name).read_text() for name in ("table.md", "table.tex")]
    assert all("It is good" in page and "Holm" in page for page in pages)


# Comparisons: Figure 8 of Kaufmann et al.


def test_the_p_value_is_scipys(results: TableResults) -> None:
    first, second = [0.5, 0.6, 0.8], [0.4, 0.5, 0.1]
    runs, against = (
        tuple(results.run(seed, summary(0.9, 0.6, robust)) for seed, robust in enumerate(values))
        for values in (first, second)
    )
    row = RowSpec(method="a > b", runs=runs, against=against)
    table = results.table(row, form="comparisons", compared="autoattack", quantities=("p_value", "gain")).loc["a > b"]
    expected = stats.ttest_ind(first, second, equal_var=False, alternative="greater").pvalue
    assert table["p_value"] == pytest.approx(expected, abs=1e-8)
    assert table["gain_mean"] == pytest.approx(100 * (mean(first) - mean(second)), abs=1e-3)


def test_gains_have_the_interval_over_seeds_and_images(results: TableResults) -> None:
    """The gains tie, as accuracies come in steps of an image: that says nothing of how far gains spread."""
    runs, against = (
        tuple(results.run(seed, summary(0.9, 0.6, robust)) for seed, robust in enumerate(values))
        for values in ([0.6, 0.7], [0.59, 0.69])
    )
    row = RowSpec(method="a > b", runs=runs, against=against)
    table = results.table(row, form="comparisons", compared="autoattack", quantities=("p_value", "gain")).loc["a > b"]
    assert table["gain_mean"] == 1
    assert table["gain_ci95"] > 2 * stats.norm.ppf(0.975)  # twice what one image of 100 is worth
    assert np.isnan(table["gain_ci95_seeds"])


def test_what_was_not_measured_has_no_p_value(results: TableResults) -> None:
    runs = tuple(results.run(seed, {"clean": {"accuracy": 0.9, "images": 10}}) for seed in range(2))
    row = RowSpec(method="a > b", runs=runs, against=runs)
    table = results.table(row, form="comparisons", compared="autoattack", quantities=("p_value", "gain"))
    assert list(table) == []


def test_two_single_runs_have_no_p_value(results: TableResults) -> None:
    row = RowSpec(method="a > b", runs=(results.run(0),), against=(results.run(0),))
    table = results.table(row, form="comparisons", compared="autoattack", quantities=("p_value", "gain"))
    assert "p_value" not in table
    assert cell(table, "a > b", "gain_n") == 1


# The printed numbers.

EXPERIMENTS = load_experiments()
PAPERS = {name: table for name, table in EXPERIMENTS.items() if table.printed is not None}


NOT_PRINTED = {
    ("kaufmann_v1.table2", "Random"),  # our control
    ("puma.table9", "wide TRADES on real and other generated images"),  # wants a checkpoint
    ("puma.table9", "widest TRADES on real and other generated images"),
}  # and Kaufmann's "Pruned by loss" is printed for MNIST alone


@pytest.mark.parametrize("name", PAPERS)
def test_every_row_of_a_papers_table_finds_its_printed_row(name: str) -> None:
    table = PAPERS[name]
    assert table.printed is not None
    for preset in ("digits", "mnist", "cifar10"):
        plan = make_plan(load_config({"preset": preset}), {name: table})
        *_, stage = stages_of_target(plan, f"results/{table.target}")
        spec = plan.stages[stage]
        assert isinstance(spec, TableStage)
        for row in spec.rows:
            if (name, row.method) in NOT_PRINTED or (preset, row.method) == ("cifar10", "Pruned by loss"):
                assert row.printed is None
                continue
            assert row.printed is not None, f"{name}: {row.method}"
            assert set(table.printed.beside.values()) <= set(printed_row(table.printed, row.printed))


@pytest.mark.parametrize("name", PAPERS)
def test_every_printed_row_has_a_row_of_ours(name: str) -> None:
    table = PAPERS[name]
    assert table.printed is not None
    numbers = read_printed(REFERENCE / table.printed.file)
    named = [printed_row(table.printed, row.printed) for row in table.rows if row.printed]
    missing = [row for row in numbers if row not in named]
    assert [next(iter(row.values())) for row in missing] == NOT_OURS.get(name, [])


NOT_OURS = {
    "kaufmann_v1.table1": ["CIFAR10"] * 5,  # beside ours at preset cifar10
    "kaufmann_v1.table2": ["CIFAR10"],
}

COLUMNS = {
    "puma_table1": (["SOTA method (TRADES; Wang et al. 2023)", "SOTA method using PUMA"], (87.87, 58.57, 91.37, 58.53)),
    "puma_table2": (["No pruning", "Random 22%", "PD 12%", "PE 22%", "PE 22% + PD 12%"], (87.87, 58.57, 87.13, 58.39)),
    "puma_table3": (["TRADES", "PUMA 0%", "PUMA 10%"], (38.28, 14.56, 44.66, 7.22)),
    "puma_table4": (["No gap", "Gap = 1/255"], (90.65, 58.42, 90.80, 58.05)),
    "puma_table5": (["6/255", "8/255", "10/255"], (91.54, 56.71, 90.04, 58.55)),
    "puma_table6": (
        ["PUMA 0%", "Online without pruning", "Online pruning eps_i > 26/255"], (89.91, 58.18, 14.87, 12.8),
    ),
    "puma_table7": (
        ["eps_i = eps = 8/255", "eps_i = 1/255 if CD_i = 1", "eps_i proportional to margin if CD_i = 1",
         "eps_i proportional to margin"],
        (88.87, 57.40, 90.67, 58.15),
    ),
    "puma_table8": (["Random pruning 22%", "PUMA 22% - CD pruning", "PUMA 22%"], (87.64, 58.27, 90.65, 58.42)),
    "puma_table9": (
        ["ResNet-18 TRADES on CIFAR10", "ResNet-18 TRADES on CIFAR10+1M (*)",
         "ResNet-18 PUMA using (*) as margin model", "WRN-28 TRADES on CIFAR10+50M (NC)",
         "WRN-28 TRADES on CIFAR10+1M", "WRN-70 TRADES on CIFAR10+50M (NC)"],
        (90.65, 58.42, 88.83, 54.80),
    ),
    "kaufmann1_table1": (["MNIST"] * 5 + ["CIFAR10"] * 5, (94.60, 70.11, 79.68, 44.59)),
    "kaufmann2_table1": (["Low distance", "Low distance", "Random", "None"], (97.83, 56.62, 98.46, 51.39)),
    "nieth_table1": (["L2"] * 11 + ["Linf"] * 9, (88.89, 72.97, 77.38, 44.93)),
    "nieth_table2": (["L2"] * 6 + ["Linf"] * 4, (93.76, 79.98, 90.50, 63.56)),
    "nieth_table3": (
        ["Baseline original", "Baseline S_train", "Baseline D_test", "25% DU-AT-AT", "25% DU-AT-AT-Extra.",
         "25% Random", "50% DU-AT-AT", "50% DU-AT-AT-Extra.", "50% Random"],
        (84.42, 54.19, 78.19, 45.37),
    ),
}  # fmt: skip
"""Of each file: the names of the paper's rows, and accuracy and robustness of the first and the last, as printed."""


@pytest.mark.parametrize("name", COLUMNS)
def test_printed_files_are_the_papers(name: str) -> None:
    rows, numbers = COLUMNS[name]
    table = read_printed(REFERENCE / f"{name}.csv")
    assert [next(iter(row.values())) for row in table] == rows
    ends = [float(row[column]) for row in (table[0], table[-1]) for column in ("accuracy", "robustness")]
    assert tuple(ends) == numbers


def test_printed_files_of_other_forms_are_the_papers() -> None:
    figure7 = read_printed(REFERENCE / "kaufmann2_fig7_hyperparameters.csv")
    assert list(figure7[0]) == ["hyperparameter", "mnist", "cifar10"]
    figure8 = read_printed(REFERENCE / "kaufmann2_fig8_hypothesis_tests.csv")
    assert [row["p_value"] for row in figure8] == ["0.108322", "0.000999", "0.024602"]
    density = read_printed(REFERENCE / "kaufmann1_table2.csv")
    assert {row["dataset"]: row["density_rho"] for row in density} == {
        "MNIST": "1015.55",
        "Pruned MNIST": "222.34",
        "CIFAR10": "96.6625",
    }
    grid = read_printed(REFERENCE / "nieth_table4.csv")
    assert [row["k"] for row in grid] == ["13", "12", "35", "24"]
    assert [row["encoding"] for row in grid] == ["SSCD", "SSCD", "ResNet50", "SSCD"]


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ("PUMA 9000", "has 0 rows with {'method': 'PUMA 9000'}; it has SOTA method"),
        ({"approach": "PUMA"}, "has no column 'approach'; it has method, accuracy"),
    ],
)
def test_a_printed_row_that_is_not_there_is_named(cells: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        printed_row(Printed(file="puma_table1.csv", setting="any", beside={}), cells)
    assert says in str(caught.value)


def test_a_row_that_could_be_several_printed_ones_is_refused() -> None:
    with pytest.raises(UserError, match=r"has 2 rows with {'pruning_method': 'Low distance'}"):
        printed_row(Printed(file="kaufmann2_table1.csv", setting="any", beside={}), "Low distance")


# The forms, as they are planned.


def planned(name: str, overrides: dict[str, Any] | None = None) -> TableStage:
    plan = make_plan(load_config(overrides or {}), {name: EXPERIMENTS[name]})
    (stage,) = plan.targets.values()
    spec = plan.stages[stage]
    assert isinstance(spec, TableStage)
    return spec


def test_the_recipes_are_set_as_figure_7_prints_them(results: TableResults) -> None:
    spec = planned("kaufmann_v2.figure7")
    spec.run(results.job)
    table = pd.read_csv(results.job.directory / "table.csv").set_index("method")
    assert (table[["difference_mnist", "difference_cifar10"]] == "same").all(axis=None)
    other = planned("kaufmann_v2.figure7", {"training": {"rs_fgsm": {"epochs": 7}}})
    assert {row.told["configured"] for row in other.rows if row.method == "Epochs"} == {"7"}
    assert {row.told["mnist"] for row in other.rows if row.method == "Epochs"} == {"10"}


def test_figure_8_compares_the_runs_of_table_1() -> None:
    table, figure = planned("kaufmann_v2.table1"), planned("kaufmann_v2.figure8")
    runs = {row.method: row.runs for row in table.rows}
    assert [(row.runs, row.against) for row in figure.rows] == [
        (runs["Low distance by DeepFool"], runs["None"]),
        (runs["Low distance by loss"], runs["None"]),
        (runs["Low distance by loss"], runs["Random"]),
    ]
    assert set(figure.upstream) <= set(table.upstream)


def test_every_form_is_used_and_every_quantity_is_known() -> None:
    forms = {type(table) for table in EXPERIMENTS.values()}
    assert forms == {Table, Comparisons, Hyperparameters, Layouts, Extrapolations}
    assert set(QUANTITIES) == {name for table in EXPERIMENTS.values() for name in table.quantities} | {"collapsed_runs"}


def test_all_papers_have_their_tables() -> None:
    targets = {table.target for table in EXPERIMENTS.values()}
    assert {"table1.csv", *(f"puma/table{k}.csv" for k in range(2, 10))} <= targets
    assert {"kaufmann_v2/table1.csv", "kaufmann_v2/figure7.csv", "kaufmann_v2/figure8.csv"} <= targets
    assert {"kaufmann_v1/table1.csv", "kaufmann_v1/table2.csv"} <= targets
    assert {f"nieth/table{k}.csv" for k in range(1, 5)} <= targets
