"""The stage that measures a trained model on test images, clean and under one attack."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationInfo, field_validator

from robustprune.core.job import Job
from robustprune.core.rows import Columns, RowPass, collect, compute_rows
from robustprune.core.settings import ThreatModel, Weights
from robustprune.core.stage import ModelId, PoolId, SharedRows, Stage, slug_of
from robustprune.core.stage_file import read_spec
from robustprune.evaluation.settings import ATTACK_WORDS, AttackName, Pgd
from robustprune.evaluation.summary import SUMMARY_FILE, doubts
from robustprune.images.pool import AnyLabels, Pool
from robustprune.networks.imported import ImportedModelStage

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustprune.attacks.pgd import Objective


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
        from robustprune.attacks.inputs import check_classifier
        from robustprune.evaluation.outcome import balanced_subset
        from robustprune.images.pool import open_pool
        from robustprune.networks.checkpoint import load_model

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
        from robustprune.attacks.inputs import CHECKED_IMAGES, inputs_at

        return inputs_at(self.pool, self.rows[:CHECKED_IMAGES], self.job.device)

    def _pass(self, compute: Callable[[int, int], Columns], name: str, rows: range | None = None) -> Iterator[Columns]:
        what, together = f"{self.spec.attack}, {name}", self.spec.shared_rows.together
        return compute_rows(self.job, len(self.rows), compute, what=what, batch_size=together, name=name, rows=rows)

    def _at_once(self, start: int, stop: int) -> Columns:
        """What every attack but AutoAttack finds, and what is known before it begins."""
        import torch

        from robustprune.attacks.inputs import inputs_at
        from robustprune.evaluation.checks import zero_gradients
        from robustprune.evaluation.outcome import is_right
        from robustprune.evaluation.pgd import withstands_pgd

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
        from robustprune.evaluation.autoattack import STANDARD

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
        from robustprune.attacks.inputs import inputs_at
        from robustprune.evaluation.autoattack import withstands_one

        left = right[start - first : stop - first].copy()
        images, labels = inputs_at(self.pool, self.rows[start:stop][left], self.job.device)
        chunk, threat = start // AUTOATTACK_CHUNK, self.spec.threat
        assert threat is not None
        still = withstands_one(name, self.model, images, labels, chunk, threat=threat, seed=self.spec.seed)
        left[left] = still.cpu().numpy()
        return {"right": left}


AUTOATTACK_CHUNK = 250
"""Images that AutoAttack attacks together, whatever the machine: it draws for a whole batch."""


class EvaluationStage(Stage):
    """Which test images a model gets right, clean and under one attack. Another attack is another stage."""

    room = "evaluation.stage"
    modules = (
        "attacks.inputs",
        "evaluation.accuracy",
        "evaluation.checks",
        "evaluation.outcome",
        "evaluation.subset",
        "pools.drawing",
        "randomness",
    )
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

    @property
    def attack_in_words(self) -> str:
        """The attack, its ball and its steps, for readers."""
        words = ATTACK_WORDS[self.attack]
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
    def decisive_modules(self) -> tuple[str, ...]:
        if self.attack == "clean":
            return self.modules
        ours = ("evaluation.autoattack",) if self.pgd is None else ("attacks.pgd", "evaluation.pgd")
        return (*self.modules, "attacks.margin_loss", "attacks.norms", "sample_noise", *ours)

    @property
    def shared_rows(self) -> SharedRows:
        together = AUTOATTACK_CHUNK if self.attack == "autoattack" else None
        return SharedRows(pool=self.pool, most=self.images, together=together)

    def row_pass(self, job: Job) -> RowPass:
        """How some or all of the test images are attacked.

        Raises:
            UserError: when the pool or the model is damaged, or the model is one on which attacks mean nothing.
        """
        return Target.opened(job, self).row_pass

    def run(self, job: Job) -> dict[str, Any]:
        """Write outcome.parquet (which images are right, clean and under attack) and summary.json.

        Returns:
            the content of summary.json.

        Raises:
            UserError: as ``row_pass``.
        """
        from robustprune.evaluation.autoattack import STANDARD
        from robustprune.evaluation.checks import answers_at_random
        from robustprune.evaluation.outcome import OUTCOME_FILE, outcome_table, summarise, write_outcome

        target = Target.opened(job, self)
        columns = collect(target.row_pass())
        breakers = STANDARD if self.attack == "autoattack" else ()
        summary = summarise(self.attack, columns, breakers, random=answers_at_random(target.model, target.first()[0]))
        for doubt in doubts(summary):
            logger.warning(doubt)
        table = outcome_table(self.attack, target.rows, target.pool.labels[target.rows], columns, breakers)
        write_outcome(job.partial, table, summary)
        job.publish(OUTCOME_FILE, SUMMARY_FILE)
        return summary


def _checked_objective(settings: Pgd | None, labels: Tensor) -> Objective:
    """What should have a gradient: the attack's objective, without the cap at which it is content."""
    from robustprune.attacks.margin_loss import cw_objective
    from robustprune.evaluation.pgd import objective_of

    if settings is not None and settings.objective == "cross_entropy":
        return objective_of(settings, labels)
    return partial(cw_objective, labels=labels, kappa=inf)
