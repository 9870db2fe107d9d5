"""The stage that scores each image by the cross-entropy of a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from robustprune.attacks.cross_entropy_settings import CrossEntropyAttack
from robustprune.core.files import digest
from robustprune.core.job import Job
from robustprune.core.rows import Columns, RowPass, compute_rows
from robustprune.core.settings import ThreatModel, Weights
from robustprune.core.stage import ModelId, SharedRows, slug_of
from robustprune.core.work import FLOAT_BYTES, Work
from robustprune.networks.classifier import network_behind
from robustprune.scores.score import ScoreStage, score

if TYPE_CHECKING:
    from torch import nn

    from robustprune.experiments.row import Row
    from robustprune.images.pool import Pool
    from robustprune.planning.context import Context
    from robustprune.planning.plan import Plan


DEFINITION = {"scores.loss": 1}

EPS_LOSS = 1e-12  # far below the loss of any image that a float32 softmax tells from certain; keeps 1 / loss finite


class LossScoreStage(ScoreStage):
    """The cross-entropy of a trained model at every image of a pool, as it is or attacked."""

    kind: Literal["scores"] = "scores"
    score: Literal["loss", "loss_adversarial"]
    model: ModelId
    weights: Weights = "last"
    attack: CrossEntropyAttack | None
    clip_start: bool = Field(True, description="of the attack; true, whatever is given, where nothing is attacked")
    threat: ThreatModel | None = Field(description="null, whatever is given, where nothing is attacked")
    seed: int = Field(ge=0, description="0, whatever is given, where nothing is attacked")

    @field_validator("clip_start")
    @classmethod
    def _of_a_start(cls, clip_start: bool, info: ValidationInfo) -> bool:
        return info.data.get("attack") is None or clip_start

    @field_validator("threat")
    @classmethod
    def _of_what_is_attacked(cls, threat: ThreatModel | None, info: ValidationInfo) -> ThreatModel | None:
        return None if info.data.get("attack") is None else threat

    @field_validator("seed")
    @classmethod
    def _of_the_attack(cls, seed: int, info: ValidationInfo) -> int:
        return 0 if info.data.get("attack") is None else seed

    @property
    def is_clean_loss(self) -> bool:
        """True if images are not attacked."""
        return self.attack is None

    @property
    def classifier(self) -> str:
        """The model whose loss it is."""
        return self.model

    @property
    def slug(self) -> str:
        return f"{self.score.replace('_', '-')}-{slug_of(self.pool)}"

    @property
    def shared_rows(self) -> SharedRows:
        return SharedRows(pool=self.pool)

    def works(self, plan: Plan) -> tuple[Work, ...]:
        """Return a pass for each image, and the gradients of the attack."""
        image = Work(network_behind(plan, self.model), forwards=1, gradients=self.attack.steps if self.attack else 0)
        return (image * plan.count(self.pool),)

    def bytes_left(self, plan: Plan, parameters: Mapping[str, int]) -> int:
        """Return the size of the loss and the distance."""
        return plan.count(self.pool) * 2 * FLOAT_BYTES

    def row_pass(self, job: Job) -> RowPass:
        """Return how the losses of some or all images are measured.

        Raises:
            UserError: when the pool or the model is damaged, or the model is one on which attacks mean nothing.
        """
        from robustprune.attacks.inputs import CHECKED_IMAGES, as_inputs
        from robustprune.attacks.margin_loss import check_gradient
        from robustprune.images.pool import open_pool
        from robustprune.networks.weights import load_model

        model = load_model(job.upstream("models", self.model), job.device, self.weights)
        pool = open_pool(job.upstream("pools", self.pool))
        check_gradient(model, *as_inputs(pool, 0, min(CHECKED_IMAGES, len(pool)), job.device), origin=self.model)
        return partial(compute_rows, job, len(pool), partial(_measure, job, self, model, pool), what="measuring losses")

    def run(self, job: Job) -> dict[str, Any]:
        """Publish a store with loss and distance = 1 / loss (Kaufmann et al.'s cheap proxy), one row a sample.

        Returns:
            what ``publish_score`` found.

        Raises:
            UserError: as ``row_pass``.
        """
        from robustprune.images.pool import open_pool
        from robustprune.networks.weights import WEIGHTS_FILES
        from robustprune.scores.files import Meaning, publish_score

        blocks = self.row_pass(job)()
        meaning = Meaning(
            column="loss",
            unit="cross-entropy, nats",
            easy="low",
            sign="a small loss is an easy image; none is negative",
        )
        weights = job.upstream("models", self.model) / WEIGHTS_FILES[self.weights]
        pool = open_pool(job.upstream("pools", self.pool))
        return publish_score(job, self, blocks, meaning, pool, {"model_digest": digest(weights)})


def _measure(job: Job, spec: LossScoreStage, model: nn.Module, pool: Pool, start: int, stop: int) -> Columns:
    import torch

    from robustprune.attacks.cross_entropy import attack_cross_entropy, losses
    from robustprune.attacks.inputs import as_inputs

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


@score("loss")
def plan_loss(context: Context, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
    """Plan the loss of the row's scoring model at the images of each pool."""
    return _plan("loss", None, context, row, pools)


@score("loss_adversarial")
def plan_loss_adversarial(context: Context, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
    """Plan the loss of the row's scoring model at the attacked images of each pool."""
    return _plan("loss_adversarial", context.config.dynamics.loss_attack, context, row, pools)


def _plan(
    name: Literal["loss", "loss_adversarial"],
    attack: CrossEntropyAttack | None,
    context: Context,
    row: Row,
    pools: tuple[str, ...],
) -> tuple[str, ...]:
    config, model = context.config, context.scoring_model(row)
    return tuple(
        context.add(
            LossScoreStage(
                score=name,
                pool=pool,
                model=model,
                weights=context.weights_of(model, config.weights),
                threat=config.threat,
                attack=attack,
                clip_start=config.training.rs_fgsm.clip_start,
                seed=config.seeds[0],
            )
        )
        for pool in pools
    )
