"""A table's rows: statistics against numpy's, printed numbers against the files."""

from statistics import mean, stdev
from typing import Any

import pytest

from robustprune.config import REFERENCE
from robustprune.errors import UserError
from robustprune.experiments import load_experiments
from robustprune.specs import RowSpec, TableSpec
from robustprune.tables.rows import read_printed, table_row

ROW = RowSpec(method="PUMA", models=(), evaluations=(), printed="SOTA method using PUMA")
SPEC = TableSpec(
    name="puma.table1",
    title="t",
    printed_file="puma_table1.csv",
    printed_digest="0" * 64,
    printed_setting="cifar10",
    rows=(ROW,),
)


def summary(clean: float, pgd: float, autoattack: float) -> dict[str, dict[str, float]]:
    return {
        "clean": {"accuracy": clean, "images": 500},
        "cw": {"accuracy": pgd, "images": 500},
        "autoattack": {"accuracy": autoattack, "images": 100},
    }


def row_of(*summaries: dict[str, dict[str, float]], row: RowSpec = ROW) -> dict[str, object]:
    models = [{"training_seconds": seconds, "images_kept": 4000} for seconds in (10.0, 20.0, 60.0)]
    return table_row(SPEC, row, summaries=summaries, models=models[: len(summaries)])


def test_mean_and_sample_standard_deviation_over_seeds() -> None:
    row = row_of(summary(0.9, 0.6, 0.5), summary(0.92, 0.63, 0.52), summary(0.95, 0.61, 0.5))
    assert row["accuracy_mean"] == round(mean([90, 92, 95]), 2)
    assert row["accuracy_std"] == round(stdev([90, 92, 95]), 2)
    assert row["robustness_cw_std"] == round(stdev([60, 63, 61]), 2)
    assert row["autoattack_mean"] == round(mean([50, 52, 50]), 2)
    assert (row["seeds"], row["test_images"], row["autoattack_images"], row["images_kept"]) == (3, 500, 100, 4000)
    assert row["training_seconds_mean"] == 30.0


def test_one_seed_has_no_standard_deviation() -> None:
    assert row_of(summary(0.9, 0.6, 0.5))["accuracy_std"] is None


def test_collapsed_runs_are_counted_where_all_runs_were_watched() -> None:
    found: list[dict[str, Any]] = [
        {"training_seconds": 1.0, "images_kept": 3, "catastrophic_overfitting_epoch": epoch} for epoch in (None, 4, 9)
    ]
    summaries = [summary(0.9, 0.6, 0.5)] * 3
    assert table_row(SPEC, ROW, summaries=summaries, models=found)["collapsed_runs"] == 2
    del found[0]["catastrophic_overfitting_epoch"]
    assert table_row(SPEC, ROW, summaries=summaries, models=found)["collapsed_runs"] is None


def test_of_a_model_that_was_trained_elsewhere_nothing_is_told_of_its_training() -> None:
    line = table_row(SPEC, ROW, summaries=[summary(0.9, 0.6, 0.5)], models=[{"parameters": 38_282}])
    assert [line[name] for name in ("images_kept", "training_seconds_mean", "collapsed_runs")] == [None, None, None]


def test_printed_numbers_stand_in_columns_of_their_own() -> None:
    row = row_of(summary(0.9, 0.6, 0.5))
    assert row["paper_cifar10_accuracy_mean"] == 91.37
    assert row["paper_cifar10_robustness_cw_std"] == 0.36
    bare = row_of(summary(0.9, 0.6, 0.5), row=ROW.model_copy(update={"printed": None}))
    assert bare["paper_cifar10_accuracy_mean"] is None


def test_a_table_of_ours_alone_has_no_printed_columns() -> None:
    ours = SPEC.model_copy(update={"printed_file": None, "printed_digest": None})
    row = table_row(
        ours,
        ROW.model_copy(update={"printed": None}),
        summaries=[summary(0.9, 0.6, 0.5)],
        models=[{"training_seconds": 1.0, "images_kept": 3}],
    )
    assert not any(column.startswith("paper") for column in row)


def test_a_printed_row_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"puma_table1.csv has no method 'PUMA 9000'"):
        row_of(summary(0.9, 0.6, 0.5), row=ROW.model_copy(update={"printed": "PUMA 9000"}))


def test_every_experiment_row_names_a_printed_row_that_exists() -> None:
    for table in load_experiments().values():
        named = {row.printed for row in table.rows if row.printed}
        assert named <= (set(read_printed(REFERENCE / table.printed_file).index) if table.printed_file else set())
