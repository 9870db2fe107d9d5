"""Settings of how good generated images are found to be."""

from pydantic import Field

from robustprune.settings.base import Settings


class QualitySettings(Settings):
    """What is measured of generated images, for ``results/quality.csv``."""

    images: int | None = Field(50_000, ge=2, description="drawn at random from each pool; null for all")
    classifier: str | None = Field(
        None,
        description="a checkpoint of the config that judges; null: one trained on the real images alone by "
        "training.standard, with another seed than one that selects",
    )
