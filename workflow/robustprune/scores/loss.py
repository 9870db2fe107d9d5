"""The stage that scores each image by the cross-entropy of a trained model."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from robustprune.attacks.cross_entropy import attack_cross_entropy, losses
from robustprune.attacks.inputs import CHECKED_IMAGES, as_inputs, check_classifier
from robustprune.core.files import digest
from robustprune.core.job import Job
from robustprune.core.rows import Columns, RowPass, compute_rows
from robustprune.images.pool import Pool, open_pool
from robustprune.networks.checkpoint import WEIGHTS_FILES, load_model
from robustprune.scores.files import Meaning, publish_score
from robustprune.scores.specs import LossScoreStage

DEFINITION = {"scores.loss": 1}

EPS_LOSS = 1e-12  # far below the loss of any image that a float32 softmax tells from certain; keeps 1 / loss finite


def row_pass(job: Job, spec: LossScoreStage) -> RowPass:
    """How the losses of some or all images are measured.

    Raises:
        UserError: when the pool or the model is damaged, or the model is one on which attacks mean nothing.
    """
    model = load_model(job.upstream("models", spec.model), job.device, spec.weights)
    pool = open_pool(job.upstream("pools", spec.pool))
    check_classifier(model, *as_inputs(pool, 0, min(CHECKED_IMAGES, len(pool)), job.device), origin=spec.model)
    return partial(compute_rows, job, len(pool), partial(_measure, job, spec, model, pool), what="measuring losses")


def run(job: Job, spec: LossScoreStage) -> dict[str, Any]:
    """Publish a store with loss and distance = 1 / loss (Kaufmann et al.'s cheap proxy), one row a sample.

    Returns:
        what ``publish_score`` found.

    Raises:
        UserError: as ``row_pass``.
    """
    blocks = row_pass(job, spec)()
    meaning = Meaning(
        column="loss",
        unit="cross-entropy, nats",
        easy="low",
        sign="a small loss is an easy image; none is negative",
    )
    weights = job.upstream("models", spec.model) / WEIGHTS_FILES[spec.weights]
    pool = open_pool(job.upstream("pools", spec.pool))
    return publish_score(job, spec, blocks, meaning, pool, {"model_digest": digest(weights)})


def _measure(job: Job, spec: LossScoreStage, model: nn.Module, pool: Pool, start: int, stop: int) -> Columns:
    images, labels = as_inputs(pool, start, stop, job.device)
    if spec.attack is not None:
        assert spec.threat is not None
        ids = torch.arange(start, stop)
        images = attack_cross_entropy(
            model,
            images,
            labels,
            ids,
            attack=spec.attack,
            threat=spec.threat,
            seed=spec.seed,
            purpose="loss start",
            clip_start=spec.clip_start,
        )
    loss = losses(model, images, labels).cpu().numpy()
    return {"loss": loss, "distance": (1 / np.maximum(loss, EPS_LOSS)).astype(np.float32)}
