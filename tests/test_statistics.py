"""The statistics of tables, against SciPy called on raw values, cases by hand, and the p-values a paper prints."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from robustprune.core.paths import REFERENCE
from robustprune.experiments.statistics import Summary, runs_below_chance, welch_test

RUNS = np.random.default_rng(0).normal(60, 20, 12)
OTHERS = np.random.default_rng(1).normal(50, 35, 30)


def test_a_summary_is_scipys() -> None:
    summary = Summary.of(list(RUNS))
    expected = stats.ttest_1samp(RUNS, 0).confidence_interval(0.95)
    assert bounds(summary) == pytest.approx(tuple(expected))
    assert summary.std == pytest.approx(stats.tstd(RUNS))
    assert summary.standard_error == pytest.approx(stats.sem(RUNS))
    assert summary.median == pytest.approx((sorted(RUNS)[5] + sorted(RUNS)[6]) / 2)
    assert summary.n == 12


def bounds(interval: Summary) -> tuple[float, float]:
    assert interval.ci95 is not None
    return interval.mean - interval.ci95, interval.mean + interval.ci95


def test_a_summary_by_hand() -> None:
    """t(0.975; 2) is 4.3027 in every table of it."""
    summary = Summary.of([1.0, 2.0, 6.0])
    assert (summary.mean, summary.median) == (3, 2)
    assert summary.std == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert summary.ci95 == pytest.approx(4.3027 * math.sqrt(7 / 3), rel=1e-4)
    assert Summary.of([5.0, 5.0]).ci95 is None  # accuracies come in steps: how far they spread is not known
    assert Summary.of([5.0, 5.0], exact=True).ci95 == 0


def test_one_run_has_a_mean_and_no_spread() -> None:
    summary = Summary.of([40.0])
    assert summary == Summary(n=1, mean=40, std=None, ci95=None, median=40)
    with pytest.raises(ValueError, match="the spread of 1 run is not known"):
        welch_test(summary, Summary.of(list(RUNS)))


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]], ids=str)
def test_what_has_no_mean_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one finite number"):
        Summary.of(values)


def test_no_column_is_without_its_number_of_runs() -> None:
    summary = Summary.of(list(RUNS))
    cells = summary.columns("autoattack")
    assert list(cells) == ["autoattack_mean", "autoattack_std", "autoattack_ci95", "autoattack_median", "autoattack_n"]
    assert (cells["autoattack_mean"], cells["autoattack_n"]) == (summary.mean, 12)


def test_welch_is_scipys_on_the_raw_runs() -> None:
    test = welch_test(Summary.of(list(RUNS)), Summary.of(list(OTHERS)))
    greater = stats.ttest_ind(RUNS, OTHERS, equal_var=False, alternative="greater")
    interval = stats.ttest_ind(RUNS, OTHERS, equal_var=False).confidence_interval(0.95)
    assert test.t == pytest.approx(greater.statistic)
    assert test.p_greater == pytest.approx(greater.pvalue)
    assert test.degrees == pytest.approx(greater.df)
    assert (test.difference - test.ci95, test.difference + test.ci95) == pytest.approx(tuple(interval))


def test_two_that_do_not_spread_are_not_tested() -> None:
    with pytest.raises(ValueError, match="neither of the two spreads"):
        welch_test(Summary.of([1.0, 1.0]), Summary.of([2.0, 2.0]))


TESTS = {
    ("low distance (p=0.6) > none (p=1)", "DeepFool"): (("Low distance", "DeepFool"), ("None", None)),
    ("low distance (p=0.6) > none (p=1)", "Loss"): (("Low distance", "Loss"), ("None", None)),
    ("low distance (p=0.6) > random (p=0.6)", "Loss"): (("Low distance", "Loss"), ("Random", None)),
}
HALF_A_DIGIT = 0.005  # Table 1 prints two decimals


def printed_row(method: str, proxy: str | None) -> tuple[float, float, int]:
    table = pd.read_csv(REFERENCE / "kaufmann2_table1.csv", keep_default_na=False)
    row = table[(table.pruning_method == method) & (table.distance_proxy == (proxy or ""))].iloc[0]
    return float(row.robustness), float(row.robustness_ci95), int(row.n_models)


def summary_of_print(mean: float, ci95: float, n: int) -> Summary:
    """What is known of runs whose mean and half of its 95 % interval are printed."""
    std = ci95 * math.sqrt(n) / float(stats.t.ppf(0.975, n - 1))
    return Summary(n=n, mean=mean, std=std, ci95=ci95, median=math.nan)


def test_kaufmanns_printed_p_values_come_out_of_the_printed_table() -> None:
    """Figure 8 from Table 1: as closely as Table 1's two decimals allow."""
    printed = pd.read_csv(REFERENCE / "kaufmann2_fig8_hypothesis_tests.csv")
    assert len(printed) == len(TESTS)
    for comparison, proxy, p_value in zip(printed.comparison, printed.distance_proxy, printed.p_value, strict=True):
        methods = [printed_row(*method) for method in TESTS[comparison, proxy]]
        exact = welch_test(*(summary_of_print(*method) for method in methods))
        assert exact.p_greater == pytest.approx(p_value, rel=0.02)
        possible = [
            welch_test(
                *(
                    summary_of_print(mean + up * HALF_A_DIGIT, width + wider * HALF_A_DIGIT, n)
                    for (mean, width, n), up, wider in zip(methods, ups, widers, strict=True)
                )
            ).p_greater
            for ups in itertools.product((-1, 1), repeat=2)
            for widers in itertools.product((-1, 1), repeat=2)
        ]
        assert min(possible) <= p_value <= max(possible)


def test_runs_below_guessing_have_collapsed() -> None:
    assert runs_below_chance([0.0, 9.9, 10.0, 85.0], chance=10) == 2
    assert runs_below_chance([0.5, 0.05], chance=0.1) == 1
