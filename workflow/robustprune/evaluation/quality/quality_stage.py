"""The stage that tells how good generated images are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from robustprune.core.files import replacing
from robustprune.core.job import Job
from robustprune.core.stage import ModelId, PoolId, Stage, slug_of
from robustprune.core.work import Work
from robustprune.networks.classifier import network_behind

if TYPE_CHECKING:
    from robustprune.images.pool import Pool
    from robustprune.planning.plan import Plan


TABLE_FILE, SHEETS, NEAREST_FILE = "table.csv", "sheets", "nearest.png"


class QualityStage(Stage):
    """Generated images beside real ones, in the eyes of a classifier that saw no generated image.

    ``pool`` has the generated images, ``train`` those that the generator learnt from, ``test`` others.
    """

    sentence = "how good generated images are, in the eyes of a classifier that saw none"
    kind: Literal["qualities"] = "qualities"
    pool: PoolId
    train: PoolId
    test: PoolId
    model: ModelId
    images: int | None = Field(description="drawn from each pool at random; None for all")

    @property
    def slug(self) -> str:
        return f"quality-{slug_of(self.pool)}"

    def works(self, plan: Plan) -> tuple[Work, ...]:
        """Return two passes over the images of each pool: for the model's answers, and for its features."""
        rows = [plan.count(pool) for pool in (self.pool, self.train, self.test)]
        images = sum(min(self.images or count, count) for count in rows)
        return (Work(network_behind(plan, self.model), forwards=2 * images),)

    def run(self, job: Job) -> dict[str, Any]:
        """Publish table.csv, contact sheets of each class, and the generated images nearest to real ones.

        Returns:
            how the images were selected, what ``report.summary`` finds of all and ``report.by_class`` of each class.

        Raises:
            UserError: when a pool or the model is damaged, or the model has no features.
            Interrupted: after a signal, with what was looked at saved.
        """
        from robustprune.attacks.checks import check_logits
        from robustprune.attacks.inputs import CHECKED_IMAGES, as_inputs
        from robustprune.evaluation.quality.measuring import Judge, look
        from robustprune.evaluation.quality.memorisation import RealNeighbours
        from robustprune.evaluation.quality.report import (
            by_class,
            draw_class_sheets,
            draw_nearest,
            report_table,
            summary,
        )
        from robustprune.networks.weights import load_model

        generated, train, test = (_open(job, pool_id) for pool_id in (self.pool, self.train, self.test))
        judge = Judge(load_model(job.upstream("models", self.model), job.device), self.model)
        check_logits(judge.model, as_inputs(test, 0, min(CHECKED_IMAGES, len(test)), job.device)[0], origin=self.model)
        neighbours = RealNeighbours(job, train)
        seen = look(job, generated, judge, neighbours, images=self.images, name="generated")
        held_out = look(job, test, judge, neighbours, images=self.images, name="held-out")
        learnt = look(job, train, judge, None, images=self.images, name="training")
        whole, classes = summary(seen, held_out, learnt), by_class(seen, held_out, generated.info.classes)
        with replacing(job.partial / TABLE_FILE) as temporary:
            report_table(whole, classes).to_csv(temporary, index=False)
        draw_class_sheets(job.partial / SHEETS, generated, seen)
        draw_nearest(job.partial / NEAREST_FILE, generated, train, seen)
        job.publish(TABLE_FILE, SHEETS, NEAREST_FILE)
        return {"selected": list(generated.info.selected), **whole, "by_class": classes}


def _open(job: Job, pool_id: str) -> Pool:
    from robustprune.images.pool import open_pool

    return open_pool(job.upstream("pools", pool_id))
