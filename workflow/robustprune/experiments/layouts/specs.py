"""Where images lie in a plane."""

from typing import Literal

from pydantic import Field

from robustprune.core.stage import ModelId, PoolId, Stage, slug_of
from robustprune.experiments.studies.settings import LayoutSettings


class LayoutStage(Stage):
    """The images of a pool, or those that a training kept in its middle, in a plane; and how their classes lie."""

    room = "experiments.layouts.stage"
    modules = ("layouts.measures", "layouts.plane")
    uses_device = False
    kind: Literal["layouts"] = "layouts"
    pool: PoolId
    model: ModelId | None = Field(description="the training that kept some of the images; null for all of them")
    settings: LayoutSettings
    seed: int = Field(ge=0)

    @property
    def slug(self) -> str:
        return f"layout-{slug_of(self.model or self.pool)}"
