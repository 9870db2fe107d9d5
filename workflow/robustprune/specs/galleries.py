"""What pruning sees: images by their score."""

from typing import Literal

from pydantic import Field

from robustprune.specs.base import Spec, StageId, slug_of


class GallerySpec(Spec):
    """How the scores of some pools are spread, what manifests drop of them, and some of the images.

    ``scores`` has an id for each of the pools; ``manifests`` choose among the images of these pools.
    """

    room = "gallery.stage"
    modules = ("gallery.counting", "gallery.cuts", "gallery.picks", "gallery.sprites", "pools.drawing", "randomness")
    kind: Literal["galleries"] = "galleries"
    pools: tuple[StageId, ...] = Field(min_length=1)
    scores: tuple[StageId, ...] = Field(min_length=1)
    manifests: tuple[StageId, ...] = Field(min_length=1)

    @property
    def slug(self) -> str:
        return f"gallery-{slug_of(self.scores[0])}"

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return (
            *(("pools", pool) for pool in self.pools),
            *(("scores", score) for score in self.scores),
            *(("manifests", manifest) for manifest in self.manifests),
        )
