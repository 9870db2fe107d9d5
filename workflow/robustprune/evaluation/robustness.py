"""The stage that measures a trained model on test images, clean and under one attack."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationInfo, field_validator

from robustprune.core.job import Job
from robustprune.core.rows import Columns, RowPass, collect, compute_rows
from robustprune.core.settings import ThreatModel, Weights
from robustprune.core.stage import ModelId, PoolId, SharedRows, Stage, slug_of
from robustprune.core.stage_file import read_spec
from robustprune.core.work import Work
from robustprune.evaluation.attack import ATTACKS, AttackName, attack_words
from robustprune.evaluation.settings import Pgd
from robustprune.evaluation.summary import OUTCOME_FILE, SUMMARY_FILE, doubts
from robustprune.images.pool import AnyLabels, Pool
from robustprune.networks.classifier import ClassifierStage, network_behind

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustprune.planning.plan import Plan


AnyFlags = npt.NDArray[np.bool_]

logger = logging.getLogger(__name__)


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
        from robustprune.attacks.checks import check_logits
        from robustprune.evaluation.outcome import balanced_subset
        from robustprune.images.pool import open_pool
        from robustprune.networks.weights import load_model

        model = load_model(job.upstream("models", spec.model), job.device, spec.weights)
        pool = open_pool(job.upstream("pools", spec.pool))
        target = cls(job, spec, model, pool, balanced_subset(pool.labels, spec.images, classes=pool.info.classes))
        check_logits(model, target.first()[0], origin=spec.model)
        return target

    @property
    def imported(self) -> bool:
        """True if the model was trained elsewhere; one of ours that has no gradient is a run like others."""
        made_by = read_spec(self.job.upstream("models", self.spec.model))
        return isinstance(made_by, ClassifierStage) and made_by.imported

    def first(self) -> tuple[Tensor, Tensor]:
        """Return images and labels enough to tell what the model is."""
        from robustprune.attacks.inputs import CHECKED_IMAGES, inputs_at

        return inputs_at(self.pool, self.rows[:CHECKED_IMAGES], self.job.device)

    def images(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return some of the test images and their labels, by their position among those measured."""
        from robustprune.attacks.inputs import inputs_at

        return inputs_at(self.pool, self.rows[start:stop], self.job.device)

    def each(self, compute: Callable[[int, int], Columns], name: str, rows: range | None = None) -> Iterator[Columns]:
        """Compute something of each test image, in batches, restartable under that name."""
        what, together = f"{self.spec.attack}, {name}", self.spec.shared_rows.together
        return compute_rows(self.job, len(self.rows), compute, what=what, batch_size=together, name=name, rows=rows)


ROW_BYTES = 8 + 2 + 3  # index, label, flags


class EvaluationStage(Stage):
    """Which test images a model gets right, clean and under one attack. Another attack is another stage."""

    sentence = "whether a model is right on each test image, clean and under an attack"
    kind: Literal["evaluations"] = "evaluations"
    attack: AttackName
    pgd: Pgd | None = Field(description="settings of an attack that is PGD")
    pool: PoolId
    images: int | None = Field(description="test images used, as many of each class as can be; null for all")
    model: ModelId
    weights: Weights = "last"
    threat: ThreatModel | None = Field(description="null, whatever is given, where nothing is attacked")
    seed: int = Field(ge=0, description="0, whatever is given, where nothing is attacked")

    @field_validator("threat")
    @classmethod
    def _of_what_is_attacked(cls, threat: ThreatModel | None, info: ValidationInfo) -> ThreatModel | None:
        return None if info.data.get("attack") == "clean" else threat

    @field_validator("seed")
    @classmethod
    def _of_the_attack(cls, seed: int, info: ValidationInfo) -> int:
        return 0 if info.data.get("attack") == "clean" else seed

    def works(self, plan: Plan) -> tuple[Work, ...]:
        """Return the passes of the attack for each image that is measured, the clean one among them."""
        forwards, gradients = self.pgd.passes if self.pgd else ATTACKS.facts(self.attack).get("passes", (1, 0))
        images = Work(network_behind(plan, self.model), forwards, gradients) * self._measured(plan)
        return (images,)

    def bytes_left(self, plan: Plan, parameters: Mapping[str, int]) -> int:
        """Return the size of the outcomes."""
        return self._measured(plan) * ROW_BYTES

    def _measured(self, plan: Plan) -> int:
        rows = plan.count(self.pool)
        return min(rows, self.images or rows)

    @property
    def attack_in_words(self) -> str:
        """The attack, its ball and its steps, for readers."""
        words = attack_words(self.attack)
        if self.threat is not None:
            words += f" in {self.threat.norm} of {self.threat.epsilon}"
        if self.pgd is not None:
            words += f", {self.pgd.steps} steps of {self.pgd.step} epsilon"
            words += f", {self.pgd.restarts} starts" if self.pgd.restarts > 1 else ""
        return words

    @property
    def slug(self) -> str:
        return f"{self.attack.replace('_', '-')}-{slug_of(self.model)}"

    @property
    def shared_rows(self) -> SharedRows:
        together = ATTACKS.facts(self.attack).get("together")
        return SharedRows(pool=self.pool, most=self.images, together=together)

    def row_pass(self, job: Job) -> RowPass:
        """Return how some or all of the test images are attacked.

        Raises:
            UserError: when the pool or the model is damaged, or the model is one on which attacks mean nothing.
        """
        return ATTACKS[self.attack](Target.opened(job, self))

    def run(self, job: Job) -> dict[str, Any]:
        """Write outcome.parquet (which images are right, clean and under attack) and summary.json.

        Returns:
            the content of summary.json.

        Raises:
            UserError: as ``row_pass``.
        """
        from robustprune.evaluation.outcome import (
            answers_at_random,
            outcome_table,
            summarise,
            write_outcome,
        )

        target = Target.opened(job, self)
        columns = collect(ATTACKS[self.attack](target)())
        breakers = ATTACKS.facts(self.attack).get("breakers", ())
        summary = summarise(self.attack, columns, breakers, random=answers_at_random(target.model, target.first()[0]))
        for doubt in doubts(summary):
            logger.warning(doubt)
        table = outcome_table(self.attack, target.rows, target.pool.labels[target.rows], columns, breakers)
        write_outcome(job.partial, table, summary)
        job.publish(OUTCOME_FILE, SUMMARY_FILE)
        return summary
