"""What is kept of the pools."""

from typing import Literal

from pydantic import Field

from robustprune.core.stage import Stage, StageId
from robustprune.pruning.settings import Among, AnyAmount, DropAsMany, Per, RadiusSettings, Strategy


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
    pools: tuple[StageId, ...]
    scores: tuple[StageId, ...]
    margins: tuple[StageId, ...]
    difficulties: tuple[StageId, ...]
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

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        scores = dict.fromkeys((*self.scores, *self.margins, *self.difficulties))
        followed = (("manifests", self.drop.manifest),) if isinstance(self.drop, DropAsMany) else ()
        return (
            *(("pools", pool) for pool in self.pools),
            *(("scores", score) for score in scores),
            *followed,
        )
