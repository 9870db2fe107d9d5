"""The stage that attacks a trained model on test images."""

from functools import partial
from typing import Any

import torch
from torch import nn

from robustprune.attacks.inputs import CHECKED_IMAGES, as_inputs, check_classifier
from robustprune.blocks import Columns, collect, compute_rows
from robustprune.evaluation.attacks import AUTOATTACK_CHUNK, is_right, withstands_autoattack, withstands_pgd
from robustprune.evaluation.outcome import OUTCOME_FILE, SUMMARY_FILE, outcome_table, summarise, write_outcome
from robustprune.job import Job
from robustprune.models.checkpoint import load_model
from robustprune.pools.format import Pool, open_pool
from robustprune.specs import EvaluationSpec


def run(job: Job, spec: EvaluationSpec) -> dict[str, Any]:
    """Write outcome.parquet (which images are right, clean and under each attack) and summary.json.

    Returns:
        the content of summary.json.

    Raises:
        UserError: when the pool or the model is damaged, or the model is one on which attacks mean nothing.
    """
    model = load_model(job.upstream("models", spec.model), job.device, spec.weights)
    pool = open_pool(job.upstream("pools", spec.pool))
    count = min(spec.settings.images or len(pool), len(pool))
    attacked = min(spec.settings.autoattack_images or count, count)
    check_classifier(model, *as_inputs(pool, 0, min(CHECKED_IMAGES, count), job.device), origin=spec.model)
    right = collect(compute_rows(job, count, partial(_clean_and_pgd, job, spec, model, pool), what="PGD", name="pgd"))
    right |= collect(
        compute_rows(
            job,
            attacked,
            partial(_autoattack, job, spec, model, pool),
            what="AutoAttack",
            batch_size=AUTOATTACK_CHUNK,
            name="autoattack",
        )
    )
    summary = summarise(right)
    write_outcome(job.partial, outcome_table(pool.labels[:count], right), summary)
    job.publish(OUTCOME_FILE, SUMMARY_FILE)
    return summary


def _clean_and_pgd(job: Job, spec: EvaluationSpec, model: nn.Module, pool: Pool, start: int, stop: int) -> Columns:
    images, labels = as_inputs(pool, start, stop, job.device)
    ids = torch.arange(start, stop)
    clean = is_right(model, images, labels)
    pgd = withstands_pgd(model, images, labels, ids, threat=spec.threat, settings=spec.settings)
    # As Wang et al. do, the attacked image alone is looked at; the random start may right one that is wrong clean.
    return {"clean": clean.cpu().numpy(), "pgd": pgd.cpu().numpy()}


def _autoattack(job: Job, spec: EvaluationSpec, model: nn.Module, pool: Pool, start: int, stop: int) -> Columns:
    images, labels = as_inputs(pool, start, stop, job.device)
    chunk = start // AUTOATTACK_CHUNK
    right = withstands_autoattack(model, images, labels, chunk, threat=spec.threat, seed=spec.settings.seed)
    return {"autoattack": right.cpu().numpy()}
