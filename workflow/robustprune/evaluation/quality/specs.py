"""How good generated images are."""

from typing import Literal

from pydantic import Field

from robustprune.core.stage import Stage, StageId, slug_of


class QualityStage(Stage):
    """Generated images beside real ones, in the eyes of a classifier that saw no generated image.

    ``pool`` has the generated images, ``train`` those that the generator learnt from, ``test`` others.
    """

    room = "evaluation.quality.stage"
    modules = (
        "attacks.inputs",
        "embeddings.encoders",
        "extrapolation.neighbours",
        "pools.drawing",
        "quality.frechet",
        "quality.measuring",
        "quality.memorisation",
        "quality.report",
        "randomness",
    )
    kind: Literal["qualities"] = "qualities"
    pool: StageId
    train: StageId
    test: StageId
    model: StageId
    images: int | None = Field(description="drawn from each pool at random; None for all")

    @property
    def slug(self) -> str:
        return f"quality-{slug_of(self.pool)}"

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        pools = dict.fromkeys((self.pool, self.train, self.test))
        return (*(("pools", pool) for pool in pools), ("models", self.model))
