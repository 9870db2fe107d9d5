"""The quantities that tables are made of: what each is, in which unit, and how it comes from a row's runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from robustprune.evaluation.attack import attack_words
from robustprune.evaluation.summary import doubts
from robustprune.experiments.cells import Cell, Sample
from robustprune.experiments.statistics import Summary, runs_below_chance, tie, welch_test
from robustprune.experiments.tables.settings import ATTACKS, QuantityName

if TYPE_CHECKING:
    from robustprune.experiments.runs import RowRuns, Run

PATIENCE = 0.1  # of the epochs: the authors stop after 30 of 300 without an improvement in validation
CRITERIA = ("validation_pgd", "validation_clean")  # the first that a training was validated by


def of_steps(run: Run, baseline: Run) -> float | None:
    """Optimiser steps of the baseline over the run's own."""
    return _ratio(baseline.training.get("steps"), run.training.get("steps"))


def of_an_epoch(run: Run, baseline: Run) -> float | None:
    """Training seconds of an epoch, the baseline's over the run's own."""
    return _ratio(_epoch_seconds(baseline), _epoch_seconds(run))


def with_early_stopping(run: Run, baseline: Run) -> float | None:
    """Training seconds until early stopping would have ended it, the baseline's over the run's own.

    Every epoch is taken to have an equal share of the seconds. None where one of the two was never validated.
    """
    return _ratio(_stopped_seconds(baseline), _stopped_seconds(run))


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


DEFINITION = {"tables.quantities": 3, "tables.speed": 2}

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


@dataclass(frozen=True)
class Quantity:
    """A column.

    Attributes:
        heading: for people, with the unit.
        decimals: digits behind the point that are worth showing.
        cell: how it comes from a row's runs.
        against_baseline: whether its difference to the baseline is worth telling.
        spread: what is shown beside a mean, where the paper prints no spread that decides it.
    """

    heading: str
    decimals: int
    cell: Callable[[RowRuns], Cell]
    against_baseline: bool = False
    spread: Literal["std", "ci95"] = "std"


def over_runs(of: Callable[[Run], float | None]) -> Callable[[RowRuns], Cell]:
    """A number for each run that tells it."""

    def cell(row: RowRuns) -> Cell:
        values = {run.seed: value for run in row.runs if (value := of(run)) is not None}
        return Sample(values) if values else None

    return cell


def over_pairs(of: Callable[[Run, Run], float | None]) -> Callable[[RowRuns], Cell]:
    """A number for each run and the one of the same seed that it is compared with."""

    def cell(row: RowRuns) -> Cell:
        others = {run.seed: run for run in row.against}
        pairs = [(run, others[run.seed]) for run in row.runs if run.seed in others]
        values = {run.seed: value for run, other in pairs if (value := of(run, other)) is not None}
        return Sample(values) if values else None

    return cell


def alike(of: Callable[[Run], float | None]) -> Callable[[RowRuns], Cell]:
    """The one number that all runs have; one for each run where they differ."""
    each = over_runs(of)

    def cell(row: RowRuns) -> Cell:
        found = each(row)
        values = set(found.values.values()) if isinstance(found, Sample) else set()  # noqa: PD011  # a dict
        return values.pop() if len(values) == 1 else found

    return cell


def of_first(of: Callable[[Run], Any]) -> Callable[[RowRuns], Cell]:
    """What all runs have alike."""

    def cell(row: RowRuns) -> Cell:
        value: Cell = of(row.runs[0]) if row.runs else None
        return value

    return cell


def told(name: QuantityName) -> Callable[[RowRuns], Cell]:
    """What was known before anything ran."""
    return lambda row: row.told.get(name)


def _percent(attack: str) -> Callable[[Run], float | None]:
    return lambda run: 100 * run.evaluation[attack]["accuracy"] if attack in run.evaluation else None


def _images(attack: str) -> Callable[[Run], int | None]:
    return lambda run: run.evaluation.get(attack, {}).get("images")


def _doubtful(row: RowRuns) -> Cell:
    """Runs with an attack that warns: no gradient, random answers, Square above attacks by gradient."""
    attacked = [run for run in row.runs if set(run.evaluation) - {"clean"}]
    return sum(bool(doubts(run.evaluation)) for run in attacked) if attacked else None


def _square_gain(run: Run) -> float | None:
    """Points of robust accuracy that Square alone took, after AutoAttack's attacks by gradient."""
    gain = run.evaluation.get("autoattack", {}).get("square_gain")
    return None if gain is None else 100 * gain


def _zero_gradients(run: Run) -> int | None:
    """Images at which a loss had no gradient, the most under any of the attacks."""
    return max(
        (found["zero_gradients"] for found in run.evaluation.values() if "zero_gradients" in found), default=None
    )


def _collapsed(row: RowRuns) -> Cell:
    """Runs that overfitted catastrophically; None where that was not watched for."""
    if any(COLLAPSED_AT not in run.training for run in row.runs):
        return None
    return sum(run.training[COLLAPSED_AT] is not None for run in row.runs)


def _below_chance(row: RowRuns) -> Cell:
    """Runs that AutoAttack leaves with less than guessing gets right; None where it was not run."""
    accuracies = [value for run in row.runs if (value := _percent("autoattack")(run)) is not None]
    return runs_below_chance(accuracies, chance=row.chance) if accuracies else None


def _p_value(row: RowRuns) -> Cell:
    """Of Welch's one-sided test that the row has more; None where the runs do not spread."""
    of = _accuracy(row)
    both = [[value for run in runs if (value := of(run)) is not None] for runs in (row.runs, row.against)]
    if min(map(len, both)) < 2:
        return None
    first, second = map(Summary.of, both)
    return welch_test(first, second).p_greater if first.std or second.std else None


def _accuracy(row: RowRuns) -> Callable[[Run], float | None]:
    """What a table of comparisons compares."""
    assert row.compared is not None
    return _percent(ATTACKS[row.compared])


def _gain(row: RowRuns) -> Cell:
    of = _accuracy(row)
    ours, others = (
        {run.seed: value for run in runs if (value := of(run)) is not None} for runs in (row.runs, row.against)
    )
    gains = {seed: value - others[seed] for seed, value in ours.items() if seed in others}
    return Sample(gains, tied=tie(ours, others)) if gains else None


def _grid(name: str) -> Callable[[Run], Any]:
    """A setting of the neighbours' search that was chosen, in the paper's word where it has one."""

    def of(run: Run) -> Any:
        value = run.score.get("settings", {}).get(name)
        return NEIGHBOUR_WORDS.get(value, value)

    return of


def _held_out(name: str) -> Callable[[RowRuns], Cell]:
    """How well the held-out images are predicted; one number, as there is one search."""
    return of_first(lambda run: run.score.get("held_out", {}).get(name))


def _mae_ratio(run: Run) -> float | None:
    """The mean absolute error over that of predicting the mean; None where all scores are alike."""
    found = run.score.get("held_out", {})
    return found["mae"] / found["constant_mae"] if found.get("constant_mae") else None


QUANTITIES: dict[QuantityName, Quantity] = {
    "accuracy": Quantity("clean accuracy, %", 2, over_runs(_percent("clean")), against_baseline=True),
    "robustness_cw": Quantity(f"{attack_words('cw')}, %", 2, over_runs(_percent("cw")), against_baseline=True),
    "robustness_pgd": Quantity(f"{attack_words('pgd')}, %", 2, over_runs(_percent("pgd")), against_baseline=True),
    "robustness_pgd_50_10": Quantity(
        f"{attack_words('pgd_50_10')}, %", 2, over_runs(_percent("pgd_50_10")), against_baseline=True
    ),
    "autoattack": Quantity(
        f"{attack_words('autoattack')}, %", 2, over_runs(_percent("autoattack")), against_baseline=True
    ),
    "doubtful_runs": Quantity("doubtful runs", 0, _doubtful),
    "square_gain": Quantity("gained by Square, points", 2, over_runs(_square_gain)),
    "zero_gradients": Quantity("images without gradient", 1, over_runs(_zero_gradients)),
    "training_seconds": Quantity("training, s", 1, over_runs(lambda run: run.training.get("training_seconds"))),
    "collapsed_runs": Quantity("collapsed runs", 0, _collapsed),
    "below_chance": Quantity("runs below chance", 0, _below_chance),
    "images_kept": Quantity("images", 0, alike(lambda run: run.training.get("images_kept"))),
    "test_images": Quantity("test images", 0, of_first(_images("clean"))),
    "autoattack_images": Quantity("of them under AutoAttack", 0, of_first(_images("autoattack"))),
    "speed_steps": Quantity("speed, steps", 2, over_pairs(of_steps)),
    "speed_stopped": Quantity("speed, stopped early", 2, over_pairs(with_early_stopping)),
    "speed_epoch": Quantity("speed, seconds an epoch", 2, over_pairs(of_an_epoch)),
    "p_value": Quantity("p", 6, _p_value),
    "gain": Quantity("gain, points", 2, _gain, spread="ci95"),
    "density": Quantity("density", 2, over_runs(lambda run: run.layout.get("density"))),
    "separation": Quantity("least separation", 4, over_runs(lambda run: run.layout.get("separation"))),
    "k": Quantity("k", 0, of_first(_grid("k"))),
    "encoding": Quantity("encoding", 0, told("encoding")),
    "metric": Quantity("metric", 0, of_first(_grid("metric"))),
    "sources": Quantity("neighbours among", 0, of_first(_grid("sources"))),
    "mae": Quantity("mean absolute error", 5, _held_out("mae")),
    "mae_ratio": Quantity("in units of the mean's own", 3, of_first(_mae_ratio)),
    "rank_correlation": Quantity("rank correlation", 3, _held_out("spearman")),
    "configured": Quantity("this configuration", 0, told("configured")),
    "mnist": Quantity("preset mnist", 0, told("mnist")),
    "cifar10": Quantity("preset cifar10", 0, told("cifar10")),
}
