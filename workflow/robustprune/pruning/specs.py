"""What is kept of the pools."""

from typing import Literal

from pydantic import Field

from robustprune.core.stage import PoolId, ScoreId, Stage
from robustprune.pruning.settings import Among, AnyAmount, Per, RadiusSettings, Strategy


class ManifestStage(Stage):
    """Which rows of which pools are kept, and with what radius each is attacked.

    ``scores`` (what the strategy goes by), ``margins`` and ``difficulties`` (what the radius follows) have an id for
    each of the pools, or none where they are not needed.
    """

    room = "pruning.stage"
    modules = (
        "pruning.candidates",
        "pruning.facts",
        "pruning.manifest",
        "pruning.radii",
        "pruning.strategies",
        "randomness",
    )
    uses_device = False
    kind: Literal["manifests"] = "manifests"
    pools: tuple[PoolId, ...]
    scores: tuple[ScoreId, ...]
    margins: tuple[ScoreId, ...]
    difficulties: tuple[ScoreId, ...]
    strategy: Strategy
    drop: AnyAmount
    per: Per
    among: Among = "all"
    radius: RadiusSettings
    validation_images: int = Field(ge=0)
    seed: int = Field(ge=0)

    @property
    def slug(self) -> str:
        return self.strategy.replace("_", "-")
