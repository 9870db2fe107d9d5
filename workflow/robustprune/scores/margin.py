"""The stage that measures the margin of every image of a pool under a model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from robustprune.attacks.margin_method import AnyMarginMethod, MarginMethod
from robustprune.core.errors import UserError
from robustprune.core.files import digest
from robustprune.core.job import Job
from robustprune.core.rows import Columns, RowPass, compute_rows
from robustprune.core.settings import Norm, Weights
from robustprune.core.stage import ModelId, SharedRows, slug_of
from robustprune.core.work import Work
from robustprune.networks.classifier import network_behind
from robustprune.scores.score import ScoreStage, score

if TYPE_CHECKING:
    from torch import nn

    from robustprune.experiments.row import Row
    from robustprune.images.pool import Pool
    from robustprune.planning.context import Context
    from robustprune.planning.plan import Plan


ROW_BYTES = 4 + 2 + 1 + 2  # margin, prediction, converged, steps

SIGN = {
    "targeted": "a large margin is an easy image; a negative one is minus the distance of a misclassified image to its "
    "own class",
    "nearest": "a large margin is an easy image; a negative one is minus the distance of a misclassified image from "
    "the class it is taken for",
    "unsigned": "a large margin is a prediction hard to change, right or wrong; none is negative",
}

"""Which end is easy, for each way to measure misclassified images."""


class MarginStage(ScoreStage):
    """Signed margins of every image of a pool under a model."""

    kind: Literal["scores"] = "scores"
    score: Literal["margin"] = "margin"
    model: ModelId
    weights: Weights = "last"
    norm: Norm
    settings: AnyMarginMethod

    @property
    def slug(self) -> str:
        return f"margin-{self.norm.lower()}-{slug_of(self.pool)}"

    @property
    def shared_rows(self) -> SharedRows:
        return SharedRows(pool=self.pool)

    def works(self, plan: Plan) -> tuple[Work, ...]:
        """Return the passes of the method for each image: at most, or what is usual."""
        forwards, gradients = self.settings.passes
        return (Work(network_behind(plan, self.model), forwards, gradients) * plan.count(self.pool),)

    def bytes_left(self, plan: Plan, parameters: Mapping[str, int]) -> int:
        """Return the size of the store's columns."""
        return plan.count(self.pool) * ROW_BYTES

    def row_pass(self, job: Job) -> RowPass:
        """Return how the margins of some or all images are measured.

        Raises:
            UserError: when the pool or the model is damaged, or the model is one on which margins mean nothing.
        """
        from robustprune.attacks.inputs import CHECKED_IMAGES, as_inputs
        from robustprune.attacks.margin_loss import check_gradient
        from robustprune.images.pool import open_pool
        from robustprune.networks.checkpoint import load_model

        model = load_model(job.upstream("models", self.model), job.device, self.weights)
        pool = open_pool(job.upstream("pools", self.pool))
        check_gradient(model, *as_inputs(pool, 0, min(CHECKED_IMAGES, len(pool)), job.device), origin=self.model)
        measure = partial(_measure, job, self, model, pool)
        rows = job.execution.chunk_rows
        return partial(compute_rows, job, len(pool), measure, what="measuring margins", batch_size=rows)

    def run(self, job: Job) -> dict[str, Any]:
        """Publish a store with margin, prediction, converged and steps, one row a sample; returns what it found.

        Raises:
            UserError: as ``row_pass``.
        """
        from robustprune.images.pool import open_pool
        from robustprune.networks.weights import WEIGHTS_FILES
        from robustprune.scores.files import Meaning, publish_score

        blocks = self.row_pass(job)()
        meaning = Meaning(
            column="margin",
            unit=f"{self.norm} distance, pixel range [0, 1]",
            easy="high",
            sign=SIGN[self.settings.negative],
        )
        weights = job.upstream("models", self.model) / WEIGHTS_FILES[self.weights]
        pool = open_pool(job.upstream("pools", self.pool))
        return publish_score(job, self, blocks, meaning, pool, {"model_digest": digest(weights)})


def _measure(job: Job, spec: MarginStage, model: nn.Module, pool: Pool, start: int, stop: int) -> Columns:
    import torch

    from robustprune.attacks.inputs import as_inputs
    from robustprune.attacks.margins import signed_margins
    from robustprune.attacks.norms import norm_named

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


@score("margin")
def plan_margins(context: Context, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
    """Plan the margins of each pool under the row's scoring model. Raises UserError where it would find too few."""
    config, model = context.config, context.scoring_model(row)
    settings = config.margins.named(row.margins)
    _check_reach(context, row, settings)
    return tuple(
        context.add(
            MarginStage(
                pool=pool,
                model=model,
                weights=context.weights_of(model, config.weights),
                norm=config.threat.norm,
                settings=settings,
            )
        )
        for pool in pools
    )


def _check_reach(context: Context, row: Row, settings: MarginMethod) -> None:
    """Margins beyond the reach are infinite, so what a row prunes or attacks by has to be within it."""
    thresholds = row.thresholds if row.score == "margin" else ()
    if context.config.threat.norm == "Linf" and max(map(abs, thresholds), default=0) >= 1:  # no pixel is farther off
        said = ", ".join(map(str, thresholds))
        raise UserError(f"{row.method}: threshold = {said} should be below 1, a margin in Linf: 26/255, not 26")
    if settings.reach is None:
        return
    epsilon = context.config.threat.epsilon
    needed = {"threat.epsilon": epsilon}
    if row.uses_margins:
        needed["the largest radius and the gap together"] = epsilon * (row.epsilon + row.gap)
    if thresholds:
        needed["the threshold"] = max(thresholds)
    what, least = max(needed.items(), key=lambda item: item[1])
    if settings.reach <= least:
        raise UserError(
            f"{row.method}: margins.{settings.method}.step_size * max_steps = {settings.reach} should be more than "
            f"{what} = {least}, since no margin above it is found"
        )
