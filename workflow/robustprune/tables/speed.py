"""How much faster a training is than the baseline's, in the three senses that are left open (papers.md, N7)."""

import pandas as pd

from robustprune.tables.runs import Run

DEFINITION = 2

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
