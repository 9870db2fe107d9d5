"""The stage that measures a trained model on test images, clean and under one attack."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from robustprune.attacks.inputs import CHECKED_IMAGES, check_classifier, inputs_at
from robustprune.attacks.margin_loss import cw_objective
from robustprune.attacks.pgd import Objective
from robustprune.core.job import Job
from robustprune.core.rows import Columns, RowPass, collect, compute_rows
from robustprune.core.stage_file import read_spec
from robustprune.evaluation.autoattack import STANDARD, withstands_one
from robustprune.evaluation.checks import answers_at_random, zero_gradients
from robustprune.evaluation.outcome import (
    OUTCOME_FILE,
    balanced_subset,
    is_right,
    outcome_table,
    summarise,
    write_outcome,
)
from robustprune.evaluation.pgd import objective_of, withstands_pgd
from robustprune.evaluation.settings import Pgd
from robustprune.evaluation.specs import AUTOATTACK_CHUNK, EvaluationStage
from robustprune.evaluation.summary import SUMMARY_FILE, doubts
from robustprune.images.pool import AnyLabels, Pool, open_pool
from robustprune.networks.checkpoint import load_model
from robustprune.training.specs import ImportedModelStage

AnyFlags = npt.NDArray[np.bool_]

logger = logging.getLogger(__name__)


def row_pass(job: Job, spec: EvaluationStage) -> RowPass:
    """How some or all of the test images are attacked.

    Raises:
        UserError: when the pool or the model is damaged, or the model is one on which attacks mean nothing.
    """
    return Target.opened(job, spec).row_pass


def run(job: Job, spec: EvaluationStage) -> dict[str, Any]:
    """Write outcome.parquet (which images are right, clean and under attack) and summary.json.

    Returns:
        the content of summary.json.

    Raises:
        UserError: as ``row_pass``.
    """
    target = Target.opened(job, spec)
    columns = collect(target.row_pass())
    breakers = STANDARD if spec.attack == "autoattack" else ()
    summary = summarise(spec.attack, columns, breakers, random=answers_at_random(target.model, target.first()[0]))
    for doubt in doubts(summary):
        logger.warning(doubt)
    table = outcome_table(spec.attack, target.rows, target.pool.labels[target.rows], columns, breakers)
    write_outcome(job.partial, table, summary)
    job.publish(OUTCOME_FILE, SUMMARY_FILE)
    return summary


@dataclass(frozen=True)
class Target:
    """A model, and the rows of a pool that it is measured on; what is computed of them goes by their position."""

    job: Job
    spec: EvaluationStage
    model: nn.Module
    pool: Pool
    rows: AnyLabels

    @classmethod
    def opened(cls, job: Job, spec: EvaluationStage) -> Self:
        """Both read, and the model checked. Raises UserError as ``row_pass``."""
        model = load_model(job.upstream("models", spec.model), job.device, spec.weights)
        pool = open_pool(job.upstream("pools", spec.pool))
        target = cls(job, spec, model, pool, balanced_subset(pool.labels, spec.images, classes=pool.info.classes))
        # A network that was trained here and died is measured, and its zero gradients told, as one run of many.
        foreign = isinstance(read_spec(job.upstream("models", spec.model)), ImportedModelStage)
        check_classifier(model, *target.first(), origin=spec.model, attacked=foreign and spec.attack != "clean")
        return target

    @property
    def row_pass(self) -> RowPass:
        """How some or all of the rows are attacked."""
        return self._by_autoattack if self.spec.attack == "autoattack" else partial(self._pass, self._at_once, "attack")

    def first(self) -> tuple[Tensor, Tensor]:
        """Images and labels enough to tell what the model is."""
        return inputs_at(self.pool, self.rows[:CHECKED_IMAGES], self.job.device)

    def _pass(self, compute: Callable[[int, int], Columns], name: str, rows: range | None = None) -> Iterator[Columns]:
        what, together = f"{self.spec.attack}, {name}", self.spec.shared_rows.together
        return compute_rows(self.job, len(self.rows), compute, what=what, batch_size=together, name=name, rows=rows)

    def _at_once(self, start: int, stop: int) -> Columns:
        """What every attack but AutoAttack finds, and what is known before it begins."""
        ids, settings, threat, seed = self.rows[start:stop], self.spec.pgd, self.spec.threat, self.spec.seed
        images, labels = inputs_at(self.pool, ids, self.job.device)
        samples = torch.from_numpy(ids)
        found = {"clean": is_right(self.model, images, labels)}
        if threat is not None:
            objective = _checked_objective(settings, labels)
            found["zero_gradient"] = zero_gradients(
                self.model, images, samples, objective=objective, threat=threat, seed=seed
            )
            if settings:
                found["right"] = withstands_pgd(
                    self.model, images, labels, samples, threat=threat, settings=settings, seed=seed
                )
        return {column: values.cpu().numpy() for column, values in found.items()}

    def _by_autoattack(self, rows: range | None = None) -> Iterator[Columns]:
        """One pass for each of its attacks, over the images that those before have left right."""
        found = collect(self._pass(self._at_once, "clean", rows))
        right, broken_by = found["clean"].copy(), np.full(len(found["clean"]), -1, dtype=np.int8)
        for position, name in enumerate(STANDARD):
            attack = partial(self._one_attack, name, right, rows.start if rows else 0)
            left = collect(self._pass(attack, name, rows))["right"]
            broken_by[right & ~left] = position
            right &= left
        return iter([{**found, "right": right, "broken_by": broken_by}])

    def _one_attack(self, name: str, right: AnyFlags, first: int, start: int, stop: int) -> Columns:
        """``right`` begins at row ``first``; of the rows from ``start`` on, those that are right are attacked."""
        left = right[start - first : stop - first].copy()
        images, labels = inputs_at(self.pool, self.rows[start:stop][left], self.job.device)
        chunk, threat = start // AUTOATTACK_CHUNK, self.spec.threat
        assert threat is not None
        still = withstands_one(name, self.model, images, labels, chunk, threat=threat, seed=self.spec.seed)
        left[left] = still.cpu().numpy()
        return {"right": left}


def _checked_objective(settings: Pgd | None, labels: Tensor) -> Objective:
    """What should have a gradient: the attack's objective, without the cap at which it is content."""
    if settings is not None and settings.objective == "cross_entropy":
        return objective_of(settings, labels)
    return partial(cw_objective, labels=labels, kappa=inf)
