"""Plans how good the generated images are found to be."""

from robustprune.core.errors import UserError
from robustprune.evaluation.quality.specs import QualityStage
from robustprune.planning.config import Config
from robustprune.planning.pools import Pools
from robustprune.planning.stages import Stages


def plan_quality(config: Config, stages: Stages, pools: Pools) -> str:
    """The stage that measures the generated images of ``synthetic.source``.

    Raises:
        UserError: when the images were selected by the classifier that is to judge them.
    """
    pool = pools.synthetic()
    judge = pools.classifiers.independent(config.quality.classifier, seed=config.seeds[0] + 1)
    if judge in _behind(pool, stages):
        raise UserError(
            f"quality.classifier = {config.quality.classifier} selected the images of {config.synthetic.source}, so it "
            "would find that it agrees with itself; name another checkpoint, or null"
        )
    return stages.add(
        QualityStage(pool=pool, train=pools.train, test=pools.real("test"), model=judge, images=config.quality.images)
    )


def _behind(stage_id: str, stages: Stages) -> set[str]:
    """All stages that a stage rests on."""
    upstream = {upstream for _, upstream in stages[stage_id].upstream}
    return upstream.union(*(_behind(one, stages) for one in upstream))
