"""The stage that measures the margin of every image of a pool under a model."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from robustprune.attacks.inputs import CHECKED_IMAGES, as_inputs, check_classifier
from robustprune.attacks.norms import norm_named
from robustprune.blocks import Columns, collect, compute_rows
from robustprune.files import digest
from robustprune.job import Job
from robustprune.margins.deepfool import signed_margins
from robustprune.models.checkpoint import WEIGHTS_FILE, load_model
from robustprune.pools.format import Pool, open_pool
from robustprune.scores.figure import draw_margins
from robustprune.specs import ScoreSpec
from robustprune.store import write_store

STORE_NAME, FIGURE_FILE = "scores.zarr", "margins.png"

SIGN = {
    "targeted": "a large margin is an easy image; a negative one is minus the distance of a misclassified image to its "
    "own class",
    "nearest": "a large margin is an easy image; a negative one is minus the distance of a misclassified image from "
    "the class it is taken for",
    "unsigned": "a large margin is a prediction hard to change, right or wrong; none is negative",
}
"""Which end is easy, for each way to measure misclassified images."""


QUANTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)  # percent


def run(job: Job, spec: ScoreSpec) -> dict[str, Any]:
    """Write scores.zarr (margin, prediction, converged, steps; one row a sample) and margins.png.

    Returns:
        images, shares of negative and of infinite margins, and quantiles of the finite ones.

    Raises:
        UserError: when the pool or the model is damaged, or the model is one on which margins mean nothing.
    """
    model_directory = job.upstream("models", spec.model)
    model, pool = load_model(model_directory, job.device), open_pool(job.upstream("pools", spec.pool))
    check_classifier(model, *as_inputs(pool, 0, min(CHECKED_IMAGES, len(pool)), job.device), origin=spec.model)
    columns = collect(compute_rows(job, len(pool), partial(_score, job, spec, model, pool), what="measuring margins"))
    facts = _facts(columns["margin"])
    attributes = {
        "spec": spec.model_dump(mode="json"),
        "unit": f"{spec.norm} distance in units of the pixel range [0, 1]",
        "sign": SIGN[spec.deepfool.negative],
        "pool_digest": pool.info.digest,
        "model_digest": digest(model_directory / WEIGHTS_FILE),
        "facts": facts,
    }
    write_store(job.partial / STORE_NAME, columns, attributes)
    draw_margins(columns["margin"], job.partial / FIGURE_FILE, norm=spec.norm, title=f"{spec.pool} under {spec.model}")
    job.publish(STORE_NAME, FIGURE_FILE)
    return facts


def _score(job: Job, spec: ScoreSpec, model: nn.Module, pool: Pool, start: int, stop: int) -> Columns:
    images, labels = as_inputs(pool, start, stop, job.device)
    result = signed_margins(model, images, labels, settings=spec.deepfool, norm=norm_named(spec.norm))
    return {
        "margin": result.margin.cpu().numpy(),
        "prediction": result.prediction.to(torch.int16).cpu().numpy(),
        "converged": result.converged.cpu().numpy(),
        "steps": result.steps.to(torch.int16).cpu().numpy(),
    }


def _facts(margins: npt.NDArray[np.float32]) -> dict[str, Any]:
    finite = margins[np.isfinite(margins)]
    quantiles = np.percentile(finite, QUANTILES) if len(finite) else np.empty(0)
    return {
        "images": len(margins),
        "negative": int(np.sum(margins < 0)),
        "censored": len(margins) - len(finite),
        "share_negative": float(np.mean(margins < 0)),
        "share_censored": 1 - len(finite) / len(margins),
        "quantiles": {f"{share}%": float(value) for share, value in zip(QUANTILES, quantiles, strict=False)},
    }
