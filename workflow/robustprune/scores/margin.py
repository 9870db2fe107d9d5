"""The stage that measures the margin of every image of a pool for a model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from robustprune.attacks.margin_method import AnyMarginMethod, MarginMethod
from robustprune.core.errors import UserError
from robustprune.core.files import digest
from robustprune.core.job import Job
from robustprune.core.paths import STORE_NAME
from robustprune.core.rows import Columns, RowPass, collect, compute_rows
from robustprune.core.settings import Norm, Weights
from robustprune.core.stage import ModelId, SharedRows, slug_of
from robustprune.core.work import Work
from robustprune.networks.classifier import network_behind
from robustprune.scores.score import Meaning, ScoreStage, score

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustprune.experiments.row import Row
    from robustprune.images.pool import Pool
    from robustprune.planning.context import Context
    from robustprune.planning.plan import Plan


CHECKED_SHARE, LEAST_CHECKED = 100, 64  # a hundredth of the images is searched without heuristics, but no fewer
MISSED = 0.01  # beyond the full search's margin

SIGN = {
    "targeted": "a large margin is an easy image; a negative one is minus the distance of a misclassified image to its "
    "own class",
    "nearest": "a large margin is an easy image; a negative one is minus the distance of a misclassified image from "
    "the class it is taken for",
    "unsigned": "a large margin is a prediction hard to change, right or wrong; none is negative",
}
"""Which end is easy, for each way to measure misclassified images."""


class MarginStage(ScoreStage):
    """Signed margins of every image of a pool for a model."""

    row_bytes = 4 + 2 + 1 + 2  # margin, prediction, converged, steps
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
        """Return the passes of the method for each image: the largest or the usual number."""
        forwards, gradients = self.settings.passes
        return (Work(network_behind(plan, self.model), forwards, gradients) * plan.count(self.pool),)

    def row_pass(self, job: Job) -> RowPass:
        """Return the pass that measures the margins of some or all images.

        Raises UserError if the pool or the model is damaged, or the model cannot be attacked.
        """
        from robustprune.attacks.inputs import CHECKED_IMAGES, as_inputs
        from robustprune.attacks.margin_loss import check_gradient
        from robustprune.images.pool import open_pool
        from robustprune.networks.weights import load_model

        model = load_model(job.upstream("models", self.model), job.device, self.weights)
        pool = open_pool(job.upstream("pools", self.pool))
        check_gradient(model, *as_inputs(pool, 0, min(CHECKED_IMAGES, len(pool)), job.device), origin=self.model)
        measure = partial(_measure, job, self, model, pool)
        rows = job.execution.chunk_rows
        return partial(compute_rows, job, len(pool), measure, what="measuring margins", batch_size=rows)

    def run(self, job: Job) -> dict[str, Any]:
        """Publish a store with margin, prediction, converged and steps, one row a sample.

        Returns:
            what ``publish_score`` does and, where the method takes a heuristic, its error: see ``heuristic_error``.

        Returns what ``publish_score`` does. Raises UserError as ``row_pass``.
        """
        from robustprune.images.pool import open_pool
        from robustprune.networks.weights import WEIGHTS_FILES
        from robustprune.scores.score_files import publish_score
        from robustprune.scores.store.reader import open_store

        blocks = self.row_pass(job)()
        unit = f"{self.norm} distance, pixel range [0, 1]"
        meaning = Meaning("margin", unit, "high", SIGN[self.settings.negative])
        weights = job.upstream("models", self.model) / WEIGHTS_FILES[self.weights]
        pool = open_pool(job.upstream("pools", self.pool))
        rows = _checked_rows(len(pool))
        exact = None if self.settings.exhaustive == self.settings else _exhaustive(job, self, pool, rows)
        facts = publish_score(job, self, blocks, meaning, pool, {"model_digest": digest(weights)})
        if exact is None:
            return facts
        margins = open_store(job.directory / STORE_NAME).read("margin")[rows]
        return {**facts, "heuristic_error": heuristic_error(margins, exact)}


def _checked_rows(images: int) -> npt.NDArray[np.int64]:
    count = min(max(images // CHECKED_SHARE, LEAST_CHECKED), images)
    return np.sort(np.random.default_rng(0).permutation(images)[:count])


def _exhaustive(job: Job, spec: MarginStage, pool: Pool, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the margins of some rows without heuristics."""
    from robustprune.attacks.inputs import inputs_at
    from robustprune.networks.weights import load_model

    model = load_model(job.upstream("models", spec.model), job.device, spec.weights)
    full = spec.model_copy(update={"settings": spec.settings.exhaustive})

    def measure(start: int, stop: int) -> Columns:
        return _margins_of(job, full, model, *inputs_at(pool, rows[start:stop], job.device))

    what, together = "measuring without heuristics", job.execution.chunk_rows
    blocks = compute_rows(job, len(rows), measure, what=what, batch_size=together, name="exhaustive")
    margins: npt.NDArray[np.float32] = collect(blocks)["margin"]
    return margins


def heuristic_error(margins: npt.NDArray[np.float32], exact: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Compare margins, (N,), with those that a full search finds.

    Returns:
        images; missed: share of them whose margin is more than 1 % larger, or is infinite where the full search found
        a boundary; largest: of those with both, the largest ratio of the two sizes; mean: their mean ratio.
    """
    sizes, exact_sizes = np.abs(margins.astype(np.float64)), np.abs(exact.astype(np.float64))
    both = np.isfinite(sizes) & np.isfinite(exact_sizes) & (exact_sizes > 0)
    ratios = sizes[both] / exact_sizes[both]
    missed = (ratios > 1 + MISSED).sum() + (~np.isfinite(sizes) & np.isfinite(exact_sizes)).sum()
    return {
        "images": len(margins),
        "missed": float(missed) / len(margins),
        "largest": float(ratios.max()) if len(ratios) else None,
        "mean": float(ratios.mean()) if len(ratios) else None,
    }


def _measure(job: Job, spec: MarginStage, model: nn.Module, pool: Pool, start: int, stop: int) -> Columns:
    from robustprune.attacks.inputs import as_inputs

    return _margins_of(job, spec, model, *as_inputs(pool, start, stop, job.device))


def _margins_of(job: Job, spec: MarginStage, model: nn.Module, images: Tensor, labels: Tensor) -> Columns:
    import torch

    from robustprune.attacks.margins import signed_margins
    from robustprune.attacks.norms import norm_named

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
    """Plan the margins of each pool for the row's scoring model. Raises UserError if the search is too short."""
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
    """Raise UserError if a threshold or radius of the row exceeds the reach: margins above it are infinite."""
    thresholds = row.thresholds if row.score == "margin" else ()
    if context.config.threat.norm == "Linf" and max(map(abs, thresholds), default=0) >= 1:  # above the pixel range
        values = ", ".join(map(str, thresholds))
        raise UserError(f"{row.method}: threshold = {values} should be below 1, a margin in Linf: 26/255, not 26")
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
