"""What every score stage publishes, and how it is read: a store with one leading column, and a picture of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robustprune.blocks import Columns
from robustprune.errors import UserError
from robustprune.job import Job
from robustprune.scores.figure import draw_scores
from robustprune.specs import Spec
from robustprune.store import open_store, write_store

STORE_NAME, FIGURE_FILE = "scores.zarr", "scores.png"
QUANTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)  # percent


@dataclass(frozen=True)
class Meaning:
    """What a score says.

    Attributes:
        column: name of the leading column, the one that is pruned by.
        unit: what a value of 1 is.
        easy: the end at which the easy images are; strategies that drop easy or difficult images go by it.
        sign: the same in words, with what a negative value means.
    """

    column: str
    unit: str
    easy: Literal["high", "low"]
    sign: str


def publish_score(
    job: Job, spec: Spec, columns: Columns, meaning: Meaning, attributes: dict[str, Any]
) -> dict[str, Any]:
    """Write scores.zarr and scores.png, and publish both.

    Args:
        job: the running stage.
        spec: its spec, stored as an attribute.
        columns: (N,) arrays, a row a sample of the pool; ``meaning.column`` is among them.
        meaning: what the leading column says.
        attributes: what else a reader should know; ``pool_digest`` is among them.

    Returns:
        images, shares of negative and of infinite scores, and quantiles of the finite ones.
    """
    values = columns[meaning.column]
    facts = _facts(values)
    said = {"column": meaning.column, "unit": meaning.unit, "easy": meaning.easy, "sign": meaning.sign}
    write_store(
        job.partial / STORE_NAME,
        [columns],
        len(values),
        {"spec": spec.model_dump(mode="json"), "score": said, "facts": facts, **attributes},
    )
    draw_scores(values, job.partial / FIGURE_FILE, label=f"{meaning.column} ({meaning.unit})", title=spec.id)
    job.publish(STORE_NAME, FIGURE_FILE)
    return facts


def read_score(directory: Path, *, pool_digest: str) -> tuple[npt.NDArray[np.float32], Meaning]:
    """The leading column of a score stage, and what it says.

    Raises:
        UserError: when the store is damaged, belongs to another pool, or does not say which column leads.
    """
    store = open_store(directory / STORE_NAME, pool_digest=pool_digest)
    try:
        meaning = Meaning(**store.attributes["score"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{store.path} does not say which column is its score ({error})") from None
    return store.read(meaning.column), meaning


def _facts(values: npt.NDArray[np.float32]) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    quantiles = np.percentile(finite, QUANTILES) if len(finite) else np.empty(0)
    return {
        "images": len(values),
        "negative": int(np.sum(values < 0)),
        "censored": len(values) - len(finite),
        "share_negative": float(np.mean(values < 0)),
        "share_censored": 1 - len(finite) / len(values),
        "quantiles": {f"{share}%": float(value) for share, value in zip(QUANTILES, quantiles, strict=False)},
    }
