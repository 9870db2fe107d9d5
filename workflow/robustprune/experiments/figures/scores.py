"""Scores that a figure shows, read from their stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from robustprune.core.errors import UserError
from robustprune.core.paths import STORE_NAME
from robustprune.scores.files import Meaning
from robustprune.scores.store.reading import open_store

if TYPE_CHECKING:
    from robustprune.core.job import Job

ONE_TRAINING = (
    "Scores are of one training each, of the first seed: their numbers have no interval over seeds, and are compared "
    "as they are."
)
"""What a caption of them says."""


def read_scores(job: Job, scores: Sequence[str]) -> tuple[npt.NDArray[np.float32], Meaning]:
    """The scores of some pools, one after the other, and what they say.

    Args:
        job: the running stage.
        scores: ids of the pools' score stages; what a stage of a name has was made of one pool and no other.

    Raises:
        UserError: when a store is damaged.
    """
    stores = [open_store(job.upstream("scores", score) / STORE_NAME) for score in scores]
    meanings = [Meaning(**store.attributes["score"]) for store in stores]
    columns = [store.read(meaning.column) for store, meaning in zip(stores, meanings, strict=True)]
    return np.concatenate(columns), meanings[0]


def refuse_unlike(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], *, names: Sequence[str]) -> None:
    """Raise UserError where two scores are not of as many images."""
    if len(first) != len(second):
        raise UserError(f"{' and '.join(names)} are of {len(first)} and of {len(second)} images, so not of the same")
