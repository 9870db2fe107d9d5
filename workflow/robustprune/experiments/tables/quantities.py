"""The quantities that tables are made of: how each comes from a row's runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from robustprune.evaluation.summary import doubts
from robustprune.experiments.intervals import Sample
from robustprune.experiments.statistics import runs_below_chance, welch_test
from robustprune.experiments.tables.quantity import attack_of, quantity

if TYPE_CHECKING:
    from robustprune.experiments.intervals import Cell
    from robustprune.experiments.runs import RowRuns, Run

PATIENCE = 0.1  # of the epochs: the authors stop after 30 of 300 without an improvement in validation
CRITERIA = ("validation_pgd", "validation_clean")  # the first that a training was validated by


DEFINITION = {"tables.quantities": 4, "tables.speed": 2}

COLLAPSED_AT = "catastrophic_overfitting_epoch"
"""What a model's record calls it; see ``training.validation``."""

NEIGHBOUR_WORDS = {
    "cosine": "Cosine sim.",
    "euclidean": "Euclidean dist.",
    "all": "Normal+Synth.",
    "real": "Normal",
    "synthetic": "Synth.",
}
"""As Nieth et al. write them."""


def over_runs(of: Callable[[Run], float | None]) -> Callable[[RowRuns], Cell]:
    """Return a cell with a number for each run that has it."""

    def cell(row: RowRuns) -> Cell:
        values = {run.seed: value for run in row.runs if (value := of(run)) is not None}
        return Sample(values) if values else None

    return cell


def over_pairs(of: Callable[[Run, Run], float | None], *, exact: bool = False) -> Callable[[RowRuns], Cell]:
    """Return a cell with a number for each run and the one of the same seed that it is compared with."""

    def cell(row: RowRuns) -> Cell:
        others = {run.seed: run for run in row.against}
        pairs = [(run, others[run.seed]) for run in row.runs if run.seed in others]
        values = {run.seed: value for run, other in pairs if (value := of(run, other)) is not None}
        return Sample(values, exact=exact) if values else None

    return cell


def accuracies_of(runs: Sequence[Run], attack: str) -> Sample | None:
    """Return the share of test images that are right, in percent, of each run that was attacked so."""
    outcomes = {run.seed: right for run in runs if (right := run.right(attack)) is not None}
    if not outcomes:
        return None
    values = {seed: 100 * float(right.mean()) for seed, right in outcomes.items()}
    return Sample(values, np.stack(list(outcomes.values())).astype(np.int8))


def one_for_all(of: Callable[[Run], float | None]) -> Callable[[RowRuns], Cell]:
    """Return a cell with the one number that all runs have, or one for each run where they differ."""
    each = over_runs(of)

    def cell(row: RowRuns) -> Cell:
        found = each(row)
        values = set(found.by_seed.values()) if isinstance(found, Sample) else set()
        return values.pop() if len(values) == 1 else found

    return cell


def of_first(of: Callable[[Run], Any]) -> Callable[[RowRuns], Cell]:
    """Return a cell with what the first run has, where all have the same."""

    def cell(row: RowRuns) -> Cell:
        value: Cell = of(row.runs[0]) if row.runs else None
        return value

    return cell


@quantity("accuracy", heading="clean accuracy, %", decimals=2, attack="clean", compared=True)
def accuracy(row: RowRuns) -> Cell:
    """Return the share of test images that are right, in percent."""
    return accuracies_of(row.runs, "clean")


@quantity("robustness_cw", decimals=2, attack="cw", compared=True)
def robustness_cw(row: RowRuns) -> Cell:
    """Return the share of test images that stay right, in percent."""
    return accuracies_of(row.runs, "cw")


@quantity("robustness_pgd", decimals=2, attack="pgd", compared=True)
def robustness_pgd(row: RowRuns) -> Cell:
    """Return the share of test images that stay right, in percent."""
    return accuracies_of(row.runs, "pgd")


@quantity("robustness_pgd_50_10", decimals=2, attack="pgd_50_10", compared=True)
def robustness_pgd_50_10(row: RowRuns) -> Cell:
    """Return the share of test images that stay right, in percent."""
    return accuracies_of(row.runs, "pgd_50_10")


@quantity("autoattack", decimals=2, attack="autoattack", compared=True)
def autoattack(row: RowRuns) -> Cell:
    """Return the share of test images that stay right, in percent."""
    return accuracies_of(row.runs, "autoattack")


@quantity("doubtful_runs", heading="doubtful runs", decimals=0)
def doubtful_runs(row: RowRuns) -> Cell:
    """Return how many runs have an attack that warns: no gradient, random answers, Square above attacks by gradient."""
    attacked = [run for run in row.runs if set(run.evaluation) - {"clean"}]
    return sum(bool(doubts(run.evaluation)) for run in attacked) if attacked else None


@quantity("square_gain", heading="gained by Square, points", decimals=2, attack="autoattack")
@over_runs
def square_gain(run: Run) -> float | None:
    """Return the points of robust accuracy that Square alone took, after AutoAttack's attacks by gradient."""
    gain = run.evaluation.get("autoattack", {}).get("square_gain")
    return None if gain is None else 100 * gain


@quantity("zero_gradients", heading="images without gradient", decimals=1)
@over_runs
def zero_gradients(run: Run) -> int | None:
    """Return at how many images a loss had no gradient, the most under any of the attacks."""
    counts = [facts["zero_gradients"] for facts in run.evaluation.values() if "zero_gradients" in facts]
    return max(counts, default=None)


@quantity("training_seconds", heading="training, s", decimals=1)
@over_runs
def training_seconds(run: Run) -> float | None:
    """Return how long the training took."""
    seconds: float | None = run.training.get("training_seconds")
    return seconds


@quantity("collapsed_runs", heading="collapsed runs", decimals=0)
def collapsed_runs(row: RowRuns) -> Cell:
    """Return how many runs overfitted catastrophically; None where that was not watched for."""
    if any(COLLAPSED_AT not in run.training for run in row.runs):
        return None
    return sum(run.training[COLLAPSED_AT] is not None for run in row.runs)


@quantity("below_chance", heading="runs below chance", decimals=0, attack="autoattack", default=False)
def below_chance(row: RowRuns) -> Cell:
    """Return how many runs AutoAttack leaves with less than guessing gets right; None where it was not run."""
    accuracies = accuracies_of(row.runs, "autoattack")
    return runs_below_chance(list(accuracies.by_seed.values()), chance=row.chance) if accuracies else None


@quantity("images_kept", heading="images", decimals=0)
@one_for_all
def images_kept(run: Run) -> int | None:
    """Return how many images were trained on."""
    images: int | None = run.training.get("images_kept")
    return images


@quantity("test_images", heading="test images", decimals=0)
@of_first
def test_images(run: Run) -> int | None:
    """Return how many test images there are."""
    images: int | None = run.evaluation.get("clean", {}).get("images")
    return images


@quantity("autoattack_images", heading="of them under AutoAttack", decimals=0, attack="autoattack")
@of_first
def autoattack_images(run: Run) -> int | None:
    """Return how many test images AutoAttack attacked."""
    images: int | None = run.evaluation.get("autoattack", {}).get("images")
    return images


@quantity("speed_steps", heading="speed, steps", decimals=2, default=False)
@partial(over_pairs, exact=True)
def of_steps(run: Run, baseline: Run) -> float | None:
    """Return the optimiser steps of the baseline over the run's."""
    return _ratio(baseline.training.get("steps"), run.training.get("steps"))


@quantity("speed_stopped", heading="speed, stopped early", decimals=2, default=False)
@over_pairs
def with_early_stopping(run: Run, baseline: Run) -> float | None:
    """Return the training seconds until early stopping would have ended it, the baseline's over the run's.

    Every epoch is taken to have an equal share of the seconds. None where one of the two was never validated.
    """
    return _ratio(_stopped_seconds(baseline), _stopped_seconds(run))


@quantity("speed_epoch", heading="speed, seconds an epoch", decimals=2, default=False)
@over_pairs
def of_an_epoch(run: Run, baseline: Run) -> float | None:
    """Return the training seconds of an epoch, the baseline's over the run's."""
    return _ratio(_epoch_seconds(baseline), _epoch_seconds(run))


def epochs_until_stopped(history: pd.DataFrame) -> int:
    """Epochs trained when more than ``PATIENCE`` of all have passed without a better validation; all if never.

    It stops at a validation only, as the authors' trainings do.

    Args:
        history: one row an epoch, with a column of CRITERIA that is NaN after epochs without a validation.

    Returns:
        0 where there was no validation.
    """
    column = next((name for name in CRITERIA if name in history), None)
    if column is None:
        return 0
    best, since = float("-inf"), 0
    validated = history[history[column].notna()]
    for epoch, accuracy in zip(validated["epoch"], validated[column], strict=True):
        if accuracy > best:
            best, since = accuracy, epoch
        elif epoch - since > PATIENCE * len(history):
            return int(epoch)
    return len(history)


def _epoch_seconds(run: Run) -> float | None:
    seconds = run.training.get("training_seconds")
    return None if seconds is None or run.history.empty else seconds / len(run.history)


def _stopped_seconds(run: Run) -> float | None:
    seconds = _epoch_seconds(run)
    return None if seconds is None else seconds * epochs_until_stopped(run.history)


def _ratio(baseline: float | None, own: float | None) -> float | None:
    return None if not baseline or not own else baseline / own


@quantity("p_value", form="comparisons", heading="p", decimals=6)
def p_value(row: RowRuns) -> Cell:
    """Return p of Welch's one-sided test that the row has more; None where the runs do not spread."""
    ours, others = _compared(row)
    if ours is None or others is None or min(ours.n, others.n) < 2:
        return None
    first, second = ours.summary, others.summary
    return welch_test(first, second).p_greater if first.std or second.std else None


@quantity("gain", form="comparisons", heading="gain, points", decimals=2, spread="ci95")
def gain(row: RowRuns) -> Cell:
    """Return how much more of what is compared each run has than the other of its seed."""
    ours, others = _compared(row)
    if ours is None or others is None or not ours.by_seed.keys() & others.by_seed.keys():
        return None
    return ours.minus(others)


def _compared(row: RowRuns) -> tuple[Sample | None, Sample | None]:
    """Return what a table of comparisons compares: of the row, and of the one that it is compared with."""
    attack = str(attack_of(str(row.compared)))
    return accuracies_of(row.runs, attack), accuracies_of(row.against, attack)


@quantity("density", form="layouts", heading="density", decimals=2)
@over_runs
def density(run: Run) -> float | None:
    """Return the density of the classes (``layouts.measures``)."""
    value: float | None = run.layout.get("density")
    return value


@quantity("separation", form="layouts", heading="least separation", decimals=4)
@over_runs
def separation(run: Run) -> float | None:
    """Return the separation of the classes (``layouts.measures``)."""
    value: float | None = run.layout.get("separation")
    return value


@quantity("k", form="extrapolations", heading="k", decimals=0)
@of_first
def k(run: Run) -> Any:
    """Return the number of neighbours that was chosen."""
    return _chosen(run, "k")


@quantity("encoding", form="extrapolations", heading="encoding", decimals=0)
def encoding(row: RowRuns) -> Cell:
    """Return what images are described by."""
    return row.told.get("encoding")


@quantity("metric", form="extrapolations", heading="metric", decimals=0)
@of_first
def metric(run: Run) -> Any:
    """Return the distance that was chosen."""
    return _chosen(run, "metric")


@quantity("sources", form="extrapolations", heading="neighbours among", decimals=0)
@of_first
def sources(run: Run) -> Any:
    """Return among which images neighbours are looked for."""
    return _chosen(run, "sources")


@quantity("mae", form="extrapolations", heading="mean absolute error", decimals=5)
@over_runs
def mae(run: Run) -> float | None:
    """Return how far the predictions of the held-out images are off."""
    value: float | None = run.score.get("held_out", {}).get("mae")
    return value


@quantity("mae_ratio", form="extrapolations", heading="in units of the mean's own", decimals=3)
@over_runs
def mae_ratio(run: Run) -> float | None:
    """Return the mean absolute error over that of predicting the mean; None where all scores are the same."""
    errors = run.score.get("held_out", {})
    return errors["mae"] / errors["constant_mae"] if errors.get("constant_mae") else None


@quantity("rank_correlation", form="extrapolations", heading="rank correlation", decimals=3)
@over_runs
def rank_correlation(run: Run) -> float | None:
    """Return the rank correlation of predicted and true scores of the held-out images."""
    value: float | None = run.score.get("held_out", {}).get("spearman")
    return value


def _chosen(run: Run, name: str) -> Any:
    """Return a setting of the neighbours' search that was chosen, in the paper's word where it has one."""
    value = run.score.get("settings", {}).get(name)
    return NEIGHBOUR_WORDS.get(value, value)


@quantity("configured", form="hyperparameters", heading="this configuration", decimals=0)
def configured(row: RowRuns) -> Cell:
    """Return the hyperparameter in the user's configuration."""
    return row.told.get("configured")


@quantity("mnist", form="hyperparameters", heading="preset mnist", decimals=0)
def mnist(row: RowRuns) -> Cell:
    """Return the hyperparameter in the preset mnist."""
    return row.told.get("mnist")


@quantity("cifar10", form="hyperparameters", heading="preset cifar10", decimals=0)
def cifar10(row: RowRuns) -> Cell:
    """Return the hyperparameter in the preset cifar10."""
    return row.told.get("cifar10")
