"""The perceptron study against closed forms, brute force and a solver of somebody else's."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from sklearn.svm import SVC

from checkout import Checkout
from made_up import read_figure
from robustprune.core.errors import Interrupted, UserError
from robustprune.core.job import Job
from robustprune.core.stage_file import write_spec
from robustprune.experiments.figures.figure import open_study
from robustprune.experiments.figures.perceptron_errors import PerceptronErrorsStage, Study, _draw, _points
from robustprune.experiments.figures.phase_map import PhaseMapStage, mislabelled_share
from robustprune.experiments.statistics import Summary
from robustprune.experiments.studies.perceptron import (
    ERRORS_FILE,
    PerceptronCurve,
    PerceptronGrid,
    PerceptronStage,
    draw_margins,
    draw_samples,
)
from robustprune.experiments.studies.perceptron_claims import compare, error_curves, exponent
from robustprune.experiments.studies.student import (
    Student,
    _loss_and_gradient,
    attacked_margins,
    least_loss,
    train_student,
)
from robustprune.planning.config import load_config
from stopping import StopAfterTwo
from tiny import all_figures, specs_of

NONE = PerceptronCurve(strategy="none")
EASY = PerceptronCurve(strategy="prune_easy", ratio=0.8)
DIFFICULT = PerceptronCurve(strategy="prune_difficult", ratio=0.8)
GRID = PerceptronGrid(trials=2, loads=(2, 4, 8, 16), easy_ratios=(0.5,), difficult_ratios=(0.5,))


def samples(count: int, curve: PerceptronCurve = NONE, *, features: int = 10, seed: int = 0) -> Any:
    return draw_samples(np.random.default_rng(seed), count, curve, features=features, scale=1.0, floor=0.0)


@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_margins_are_those_of_a_normal_feature(floor: float) -> None:
    margins = draw_margins(np.random.default_rng(0), 20_000, scale=0.5, floor=floor)
    drawn = np.abs(np.random.default_rng(1).normal(scale=0.5, size=200_000))
    assert margins.min() >= floor
    assert stats.ks_2samp(margins, drawn[drawn >= floor]).pvalue > 0.01


@pytest.mark.parametrize(("curve", "kept"), [(EASY, slice(0, 2000)), (DIFFICULT, slice(8000, 10_000))])
def test_pruning_keeps_the_samples_at_one_end(curve: PerceptronCurve, kept: slice) -> None:
    margins = samples(2000, curve)[:, 0]
    every = np.sort(np.abs(np.random.default_rng(5).standard_normal(10_000)))[kept]
    assert (np.diff(margins) >= 0).all()
    assert margins.mean() == pytest.approx(every.mean(), rel=0.05)
    assert np.quantile(margins, [0.1, 0.9]) == pytest.approx(np.quantile(every, [0.1, 0.9]), rel=0.1)


def test_the_mislabelled_share_is_what_sampling_gives() -> None:
    margins = samples(20_000, EASY)[:, 0]
    assert mislabelled_share(0.1, 0.8, scale=1.0) == pytest.approx((margins < 0.1).mean(), abs=0.02)
    assert mislabelled_share(1.0, 0.8, scale=1.0) == 1.0


@pytest.mark.parametrize("epsilon", [0.0, 0.05])
def test_the_loss_is_that_of_attacked_samples_and_the_gradient_its_slope(epsilon: float) -> None:
    inputs, random = samples(30, features=4), np.random.default_rng(1)
    halves = np.abs(random.standard_normal(8)) * (random.random(8) > 0.3)
    halves[:4] *= halves[4:] == 0  # a weight has one sign
    weights = halves[:4] - halves[4:]
    attacked = inputs - epsilon * np.sign(weights)  # FGSM on y x: x - epsilon y sign(theta)
    loss, gradient = _loss_and_gradient(halves, inputs, epsilon)
    assert loss == pytest.approx(np.log1p(np.exp(-attacked @ weights)).mean())
    slopes = optimize.approx_fprime(halves, lambda point: _loss_and_gradient(point, inputs, epsilon)[0], 1e-7)
    assert gradient == pytest.approx(slopes, abs=1e-5)


def test_a_student_that_cannot_fit_all_samples_is_at_the_least_loss() -> None:
    inputs = samples(400, EASY, features=2)
    epsilon = 0.1
    weights, converged = least_loss(inputs, epsilon)
    student = train_student(inputs, epsilon)

    def loss(weights: Any) -> float:
        margins = inputs @ weights - epsilon * np.abs(weights).sum()
        return float(np.logaddexp(0, -margins).mean())

    around = [student.weights + step for step in np.random.default_rng(0).normal(scale=0.5, size=(500, 2))]
    assert student.converged is converged is True
    assert not student.fits
    assert student.weights == pytest.approx(weights)
    assert loss(student.weights) <= min(loss(weights) for weights in around)


@pytest.mark.parametrize("curve", [NONE, EASY, DIFFICULT], ids=lambda curve: curve.strategy)
def test_the_widest_margin_is_a_support_vector_machines(curve: PerceptronCurve) -> None:
    inputs = samples(60, curve)
    machine = SVC(kernel="linear", C=1e8, tol=1e-6).fit(np.vstack([inputs, -inputs]), [1] * 60 + [-1] * 60)
    weights, theirs = train_student(inputs, 0.0).weights, machine.coef_[0]
    assert weights / np.linalg.norm(weights) == pytest.approx(theirs / np.linalg.norm(theirs), abs=1e-3)
    assert (inputs @ weights).min() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("epsilon", [0.0, 0.05])
def test_the_widest_margin_under_attack_is_that_of_a_general_solver(epsilon: float) -> None:
    inputs = draw_samples(np.random.default_rng(0), 40, NONE, features=5, scale=1.0, floor=0.1)
    student = train_student(inputs, epsilon)

    def margins(weights: Any) -> Any:
        return attacked_margins(inputs, weights, epsilon) - 1

    least = optimize.minimize(
        lambda weights: weights @ weights, student.weights * 1.5, method="SLSQP",
        constraints={"type": "ineq", "fun": margins},
    )  # fmt: skip
    assert student.fits
    assert attacked_margins(inputs, student.weights, epsilon).min() == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(student.weights) == pytest.approx(np.linalg.norm(least.x), rel=1e-3)


def test_gradient_descent_goes_where_the_widest_margin_is() -> None:
    inputs = samples(40, features=3)
    student, weights = train_student(inputs, 0.02), np.zeros(3)
    away = []
    for step in range(1, 20_001):
        wrong = 1 / (1 + np.exp(np.minimum(inputs @ weights - 0.02 * np.abs(weights).sum(), 30)))
        attacked = inputs - 0.02 * np.sign(weights)
        weights = weights + 1.0 * wrong @ attacked / len(inputs) / max(wrong.mean(), 1e-9)
        if step in (100, 20_000):
            cosine = weights @ student.weights / np.linalg.norm(weights) / np.linalg.norm(student.weights)
            away.append(np.degrees(np.arccos(min(1, cosine))))
    assert away[1] < 1 < away[0] or away[1] < away[0] / 5


def test_chance_is_half_a_turn() -> None:
    nothing = Student(np.zeros(3), fits=False, converged=True)
    assert (nothing.angle_error, nothing.correlation_error) == (0.5, 1.0)
    assert Student(np.array([-2.0, 0, 0]), fits=False, converged=True).angle_error == 1.0


@pytest.mark.parametrize(("epsilon", "error"), [(0.01, (0.45, 0.55)), (0.001, (0.0, 0.1))])
def test_pruning_easy_samples_breaks_where_most_of_the_kept_are_mislabelled(
    epsilon: float, error: tuple[float, float]
) -> None:
    inputs = draw_samples(
        np.random.default_rng(0), 1600, PerceptronCurve(strategy="prune_easy", ratio=0.9), features=200,
        scale=200**-0.5, floor=0.0,
    )  # fmt: skip
    assert (mislabelled_share(epsilon, 0.9, scale=200**-0.5) > 0.5) == (epsilon == 0.01)
    assert error[0] <= train_student(inputs, epsilon).angle_error <= error[1]


LOADS = (2.0, 4.0, 8.0, 16.0, 32.0)


def errors_of(error: Callable[[float], float]) -> pd.DataFrame:
    """A study whose angle errors follow a formula, a little differently in each trial."""
    rows = [
        {"strategy": name, "ratio": ratio, "load": load, "trial": trial, "angle_error": error(load) * (1 + trial / 10)}
        for name, ratio in (("none", 0.0), ("prune_easy", 0.8))
        for load in LOADS
        for trial in range(3)
    ]
    return pd.DataFrame(rows)


def test_exponents_of_known_laws() -> None:
    power = exponent(errors_of(lambda load: 0.3 / load), 2, 32)
    assert power is not None
    assert power.n == 3
    assert power.mean == pytest.approx(-1)
    (_, curve) = error_curves(errors_of(lambda load: float(np.exp(-load / 4))), (NONE, EASY), LOADS, LOADS)
    assert curve.early is not None
    assert curve.late is not None
    assert curve.late.mean < 2 * curve.early.mean < 0
    assert curve.relative == pytest.approx(1)
    assert exponent(errors_of(lambda load: 0.0), 2, 32) is None


def test_trials_without_an_error_have_no_exponent() -> None:
    errors = errors_of(lambda load: 0.3 / load)
    errors.loc[(errors["trial"] == 2) & (errors["load"] == 8), "angle_error"] = 0.0
    left = exponent(errors[errors["strategy"] == "none"], 2, 32)
    assert left is not None
    assert left.n == 2
    assert left.mean == pytest.approx(-1)


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ([0.1, 0.2, 0.12], [0.5, 0.4, 0.45], "less"),
        ([0.5, 0.4, 0.45], [0.1, 0.2, 0.12], "more"),
        ([0.1, 0.4, 0.3], [0.2, 0.35, 0.3], "cannot tell"),
        ([0.0, 0.0, 0.0], [0.5, 0.5, 0.5], "cannot tell"),  # without a spread nothing is known of it
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], "cannot tell"),
    ],
)
def test_errors_are_compared_as_by_scipy(first: list[float], second: list[float], found: str) -> None:
    assert compare(Summary.of(first), Summary.of(second)) == found
    if np.std(first) > 0:
        interval = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
        assert (interval.low <= 0 <= interval.high) == (found == "cannot tell")


@pytest.mark.parametrize(
    ("grid", "key", "values", "says"),
    [
        ("curves", "loads", [0, 2, 4, 8], "curves.loads.0 = 0"),
        ("curves", "loads", [2, 8, 4, 16], "curves.loads = [2, 8, 4, 16]: should rise"),
        ("curves", "loads", [0.002, 2, 4, 8], "curves.loads = [0.002, 2.0, 4.0, 8.0] should each keep a sample"),
        ("curves", "loads", [1, 2, 4], "should have three values of at least 2"),
        ("curves", "easy_ratios", [80], "curves.easy_ratios.0 = 80"),
        ("curves", "difficult_ratios", [0.5, 0.5], "should rise, each value once"),
        ("phases", "easy_ratios", [0.4], "phases.easy_ratios and phases.difficult_ratios"),
    ],
)
def test_a_grid_that_makes_no_study_is_refused_by_its_key(grid: str, key: str, values: list[float], says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        load_config({"perceptron": {grid: {**GRID.model_dump(mode="json"), key: values}}})


def test_an_attack_below_zero_is_refused() -> None:
    with pytest.raises(UserError, match=r"perceptron.phase_epsilons.0 = -0.01"):
        load_config({"perceptron": {"phase_epsilons": [-0.01, 0.1]}})


def perceptron_spec(epsilon: float, **changes: Any) -> PerceptronStage:
    settings = {"grid": GRID, "filtered": False, "inputs": "unit_norm", "seed": 0, **changes}
    return PerceptronStage(features=20, epsilon=epsilon, **settings)


def test_a_resumed_study_has_the_same_bytes(make_job: Callable[..., Job]) -> None:
    spec = perceptron_spec(0.02)
    whole, broken = make_job("studies", spec.id), make_job("studies", "broken")
    assert spec.run(whole)["students"] == 3 * 4 * 2
    broken.checkpoints = StopAfterTwo(60)
    with pytest.raises(Interrupted):
        spec.run(broken)
    broken.checkpoints = whole.checkpoints
    spec.run(broken)
    assert (broken.directory / ERRORS_FILE).read_bytes() == (whole.directory / ERRORS_FILE).read_bytes()


def studied(make_job: Callable[..., Job], epsilon: float, **changes: Any) -> str:
    spec = perceptron_spec(epsilon, **changes)
    job = make_job("studies", spec.id)
    write_spec(job.directory / "spec.json", spec)
    spec.run(job)
    return spec.id


def test_a_figure_has_its_data_and_judges_each_claim(make_job: Callable[..., Job]) -> None:
    clean, attacked = studied(make_job, 0.0), studied(make_job, 0.02)
    spec = PerceptronErrorsStage(
        name="puma.figure2", title="Figure 2", claim="errors fall", studies=(attacked,), without=(clean,)
    )
    job = make_job("figures", spec.id)
    spec.run(job)
    picture, data, caption = read_figure(job.directory)
    assert "samples kept per feature" in picture
    assert len(data) == 3 * 4 * 2
    assert (data["n"] == 2).all()
    errors = pd.read_parquet(job.upstream("studies", attacked) / ERRORS_FILE)
    first = data.iloc[0]
    trials = errors[(errors["strategy"] == "none") & (errors["load"] == first["load"])]
    assert first["mean"] == pytest.approx(trials["angle_error"].mean())
    assert caption.startswith("Figure 2\n\nClaimed: errors fall.\n")
    assert re.search(r"2 trials; (all 24|\d+ of 24) students converged\. Exponents", caption)
    assert "Exponents over α 2 to 8 and over 8 to 16: no pruning -" in caption
    assert "Against no pruning, by the 95 % interval of the difference (Welch): PE 50% " in caption
    base = pd.read_parquet(job.upstream("studies", clean) / ERRORS_FILE)
    change = re.search(r"by the attack, .* by α: no pruning 2: (\S+) ± (\S+) %", caption)
    assert change is not None
    first, second = (rows[(rows["strategy"] == "none") & (rows["load"] == 2)]["angle_error"] for rows in (errors, base))
    assert float(change[1]) == pytest.approx(100 * (first.mean() / second.mean() - 1), abs=0.06)


def test_a_share_has_one_style_wherever_it_is_pruned(make_job: Callable[..., Job]) -> None:
    grid = GRID.model_copy(update={"easy_ratios": (0.5, 0.8), "difficult_ratios": (0.2, 0.5)})
    study = Study(*open_study(make_job("figures", "f-0123456789"), studied(make_job, 0.0, grid=grid)))
    panels = _draw([study], _points(study)).axes
    styles: dict[str, set[tuple[Any, Any]]] = {}
    for bars in (container for axes in panels for container in axes.containers):
        line: Any = bars[0]
        styles.setdefault(str(bars.get_label()), set()).add((line.get_color(), line.get_marker()))
    assert set(styles) == {"no pruning", "20% pruned", "50% pruned", "80% pruned"}
    assert all(len(each) == 1 for each in styles.values())
    assert len(set().union(*styles.values())) == 4


def test_the_phase_map_shows_which_strategy_wins(make_job: Callable[..., Job]) -> None:
    studies = tuple(studied(make_job, epsilon) for epsilon in (0.0, 0.02, 0.2))
    spec = PhaseMapStage(name="puma.phase_map", title="Phases", studies=studies)
    job = make_job("figures", spec.id)
    spec.run(job)
    picture, data, caption = read_figure(job.directory)
    assert "share pruned" in picture
    assert len(data) == 3 * 4
    decided = data[data["best"] != "undecided"]
    assert 0 < len(decided) < len(data)
    assert (decided[["none", "prune_easy", "prune_difficult"]].idxmin(axis=1) == decided["best"]).all()
    assert "cells where the attack can mislabel" in caption


@pytest.mark.parametrize("preset", ["digits", "mnist", "cifar10"])
def test_the_studies_are_those_of_the_paper_at_every_preset(preset: str) -> None:
    plan = all_figures(preset)
    paper = [spec for spec in specs_of(plan, PerceptronStage) if spec.grid.trials == 20]
    assert len(paper) == 7  # one without an attack, two lengths of the inputs for each of three attacks
    assert {spec.features for spec in paper} == {200}


@pytest.mark.slow
def test_the_workflow_makes_a_figure_with_its_data_and_caption(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.configure({"perceptron": {"features": 20, "curves": GRID.model_dump(mode="json")}})
    checkout.snakemake("--cores", "1", "results/puma/figure1.svg")
    figure = tmp_path / "results" / "puma" / "figure1.svg"
    assert figure.read_text().startswith("<?xml")
    assert len(pd.read_csv(figure.with_suffix(".csv"))) == 3 * 4 * 2
    assert "PUMA, Figure 1" in figure.with_suffix(".md").read_text()
    assert checkout.jobs("results/puma/figure1.csv") == {}
