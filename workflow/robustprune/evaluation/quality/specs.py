"""How good generated images are."""

from typing import Literal

from pydantic import Field

from robustprune.core.stage import ModelId, PoolId, Stage, slug_of


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
    pool: PoolId
    train: PoolId
    test: PoolId
    model: ModelId
    images: int | None = Field(description="drawn from each pool at random; None for all")

    @property
    def slug(self) -> str:
        return f"quality-{slug_of(self.pool)}"
