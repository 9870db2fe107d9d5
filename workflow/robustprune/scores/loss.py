"""The stage that scores each image of a pool by the cross-entropy of a trained model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from robustprune.core.files import digest
from robustprune.core.job import Job
from robustprune.core.rows import Columns, RowPass, compute_rows
from robustprune.core.settings import CrossEntropyAttack, ThreatModel, Weights
from robustprune.core.stage import ModelId, SharedRows
from robustprune.core.work import FLOAT_BYTES, Work
from robustprune.networks.classifier import network_behind
from robustprune.scores.score import Meaning, ScoreStage, score

if TYPE_CHECKING:
    from torch import nn

    from robustprune.experiments.row import Row
    from robustprune.images.pool import Pool
    from robustprune.planning.context import Context
    from robustprune.planning.plan import Plan


DEFINITION = {"scores.loss": 1}

EPS_LOSS = (
    1e-12  # far below the smallest loss that a float32 softmax gives for an uncertain image; keeps 1 / loss finite
)


class LossScoreStage(ScoreStage):
    """The cross-entropy of a trained model at every image of a pool, clean or attacked."""

    row_bytes = 2 * FLOAT_BYTES  # loss, distance
    score: Literal["loss", "loss_adversarial"]
    model: ModelId
    weights: Weights = "last"
    attack: CrossEntropyAttack | None
    clip_start: bool = Field(True, description="clip the attack's start to the pixel range; true without an attack")
    threat: ThreatModel | None = Field(description="bounds of the attack; null without an attack")
    seed: int = Field(ge=0, description="seed of the attack; 0 without an attack")

    @field_validator("clip_start", "threat", "seed")
    @classmethod
    def _fixed_without_attack(cls, value: object, info: ValidationInfo) -> object:
        attacked = info.data.get("attack") is not None
        return value if attacked else {"clip_start": True, "threat": None, "seed": 0}[str(info.field_name)]

    @property
    def is_clean_loss(self) -> bool:
        """True if images are not attacked."""
        return self.attack is None

    @property
    def classifier(self) -> str:
        """The model that gives the loss."""
        return self.model

    @property
    def shared_rows(self) -> SharedRows:
        return SharedRows(pool=self.pool)

    def works(self, plan: Plan) -> tuple[Work, ...]:
        """Return one forward pass per image, and the gradients of the attack."""
        image = Work(network_behind(plan, self.model), forwards=1, gradients=self.attack.steps if self.attack else 0)
        return (image * plan.count(self.pool),)

    def row_pass(self, job: Job) -> RowPass:
        """Return the pass that measures the losses of some or all images.

        Raises UserError if the pool or the model is damaged, or the model cannot be attacked.
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
        """Publish a store with loss and distance = 1 / loss (Kaufmann et al.'s cheap proxy), one row per image.

        Returns what ``publish_score`` does. Raises UserError as ``row_pass``.
        """
        from robustprune.images.pool import open_pool
        from robustprune.networks.weights import WEIGHTS_FILES
        from robustprune.scores.score_files import publish_score

        blocks = self.row_pass(job)()
        meaning = Meaning("loss", "cross-entropy, nats", "low", "a small loss is an easy image; none is negative")
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
        images = attack_cross_entropy(
            model,
            images,
            labels,
            torch.arange(start, stop),
            attack=spec.attack,
            threat=spec.threat,
            seed=spec.seed,
            purpose="loss start",
            clip_start=spec.clip_start,
        )
    loss = losses(model, images, labels).cpu().numpy()
    return {"loss": loss, "distance": (1 / np.maximum(loss, EPS_LOSS)).astype(np.float32)}


@score("loss")
@score("loss_adversarial")
def plan_losses(context: Context, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
    """Plan the loss of the row's scoring model at the clean or the attacked images of each pool."""
    config, model = context.config, context.scoring_model(row)
    attacked = row.score == "loss_adversarial"
    return tuple(
        context.add(
            LossScoreStage(
                score="loss_adversarial" if attacked else "loss",
                pool=pool,
                model=model,
                weights=context.weights_of(model, config.weights),
                threat=config.threat,
                attack=config.dynamics.loss_attack if attacked else None,
                clip_start=config.training.rs_fgsm.clip_start,
                seed=config.seeds[0],
            )
        )
        for pool in pools
    )
