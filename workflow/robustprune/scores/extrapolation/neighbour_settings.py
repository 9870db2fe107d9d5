"""Settings of the neighbours that scores are extrapolated from."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from robustprune.core.settings import Settings

Distance = Literal["cosine", "euclidean"]
Weighting = Literal["mean", "distance"]
Sources = Literal["all", "real", "synthetic"]


class NeighbourSettings(Settings):
    """The k-nearest-neighbour regression of Nieth et al. (2024, section 2).

    Every combination of ``k``, ``metric``, ``weighting`` and ``sources`` is tried on the held-out images; the one of
    lowest mean absolute error is used.
    """

    k: tuple[Annotated[int, Field(ge=1)], ...] = Field((5, 13, 35), min_length=1, description="numbers of neighbours")
    metric: tuple[Distance, ...] = Field(("cosine",), min_length=1, description="cosine | euclidean")
    weighting: tuple[Weighting, ...] = Field(
        ("mean",), min_length=1, description="mean of the neighbours' scores, or weighted by 1 / distance"
    )
    sources: tuple[Sources, ...] = Field(
        ("all",), min_length=1, description="directly scored images that neighbours are looked for in"
    )
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the last source on which the choice is made")
    allow_overlap: bool = Field(False, description="allow images that are both scored directly and extrapolated to")
    seed: int = Field(0, ge=0, description="which images are held out")

    @field_validator("k", "metric", "weighting", "sources")
    @classmethod
    def _distinct(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(value)) != len(value):
            raise ValueError("should have each value once")
        return value
