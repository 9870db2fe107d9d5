"""Plan the stage that measures how good the generated images are."""

from typing import TYPE_CHECKING

from robustprune.core.errors import UserError
from robustprune.evaluation.quality.stage import QualityStage
from robustprune.planning.classifiers import independent_classifier
from robustprune.planning.pools import synthetic_pool
from robustprune.planning.stages import Stages

if TYPE_CHECKING:
    from robustprune.planning.context import Context


def plan_quality(context: "Context") -> str:
    """Return the stage that measures the generated images of ``synthetic.source``.

    Raises:
        UserError: where the images were selected by the classifier that is to judge them.
    """
    config, pool = context.config, synthetic_pool(context)
    judge = independent_classifier(context, config.quality.classifier, seed=config.seeds[0] + 1)
    if judge in _behind(pool, context.stages):
        raise UserError(
            f"quality.classifier = {config.quality.classifier} selected the images of {config.synthetic.source}, so it "
            "would find that it agrees with itself; name another checkpoint, or null"
        )
    return context.add(
        QualityStage(
            pool=pool, train=context.train, test=context.pool("test"), model=judge, images=config.quality.images
        )
    )


def _behind(stage_id: str, stages: Stages) -> set[str]:
    """Return all stages that a stage rests on."""
    upstream = {upstream for _, upstream in stages[stage_id].upstream}
    return upstream.union(*(_behind(one, stages) for one in upstream))
