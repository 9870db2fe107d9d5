"""The stage that measures the margin of every image of a pool under a model."""

from functools import partial
from typing import Any

import torch
from torch import nn

from robustprune.attacks.inputs import CHECKED_IMAGES, as_inputs, check_classifier
from robustprune.attacks.margins import signed_margins
from robustprune.attacks.norms import norm_named
from robustprune.core.files import digest
from robustprune.core.job import Job
from robustprune.core.rows import Columns, RowPass, compute_rows
from robustprune.images.pool import Pool, open_pool
from robustprune.networks.checkpoint import WEIGHTS_FILES, load_model
from robustprune.scores.files import Meaning, publish_score
from robustprune.scores.specs import MarginStage

SIGN = {
    "targeted": "a large margin is an easy image; a negative one is minus the distance of a misclassified image to its "
    "own class",
    "nearest": "a large margin is an easy image; a negative one is minus the distance of a misclassified image from "
    "the class it is taken for",
    "unsigned": "a large margin is a prediction hard to change, right or wrong; none is negative",
}
"""Which end is easy, for each way to measure misclassified images."""


def row_pass(job: Job, spec: MarginStage) -> RowPass:
    """How the margins of some or all images are measured.

    Raises:
        UserError: when the pool or the model is damaged, or the model is one on which margins mean nothing.
    """
    model = load_model(job.upstream("models", spec.model), job.device, spec.weights)
    pool = open_pool(job.upstream("pools", spec.pool))
    check_classifier(model, *as_inputs(pool, 0, min(CHECKED_IMAGES, len(pool)), job.device), origin=spec.model)
    measure = partial(_measure, job, spec, model, pool)
    rows = job.execution.chunk_rows
    return partial(compute_rows, job, len(pool), measure, what="measuring margins", batch_size=rows)


def run(job: Job, spec: MarginStage) -> dict[str, Any]:
    """Publish a store with margin, prediction, converged and steps, one row a sample; returns what it found.

    Raises:
        UserError: as ``row_pass``.
    """
    blocks = row_pass(job, spec)()
    meaning = Meaning(
        column="margin",
        unit=f"{spec.norm} distance, pixel range [0, 1]",
        easy="high",
        sign=SIGN[spec.settings.negative],
    )
    weights = job.upstream("models", spec.model) / WEIGHTS_FILES[spec.weights]
    pool = open_pool(job.upstream("pools", spec.pool))
    return publish_score(job, spec, blocks, meaning, pool, {"model_digest": digest(weights)})


def _measure(job: Job, spec: MarginStage, model: nn.Module, pool: Pool, start: int, stop: int) -> Columns:
    images, labels = as_inputs(pool, start, stop, job.device)
    result = signed_margins(
        model,
        images,
        labels,
        settings=spec.settings,
        norm=norm_named(spec.norm),
        batch_size=job.execution.batch_size,
    )
    return {
        "margin": result.margin.cpu().numpy(),
        "prediction": result.prediction.to(torch.int16).cpu().numpy(),
        "converged": result.converged.cpu().numpy(),
        "steps": result.steps.to(torch.int16).cpu().numpy(),
    }
