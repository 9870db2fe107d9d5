"""A page of all that was asked for."""

from typing import Annotated, Literal

from pydantic import Field

from robustprune.core.marks import Ref
from robustprune.core.settings import Settings
from robustprune.core.stage import ManifestId, PoolId, ScoreId, Stage, StageId, slug_of


class GalleryStage(Stage):
    """How the scores of some pools are spread, what manifests drop of them, and some of the images.

    ``scores`` has an id for each of the pools; ``manifests`` choose among the images of these pools.
    """

    room = "report.gallery.stage"
    modules = ("gallery.counting", "gallery.cuts", "gallery.picks", "gallery.sprites", "pools.drawing", "randomness")
    uses_device = False
    kind: Literal["galleries"] = "galleries"
    pools: tuple[PoolId, ...] = Field(min_length=1)
    scores: tuple[ScoreId, ...] = Field(min_length=1)
    manifests: tuple[ManifestId, ...] = Field(min_length=1)

    @property
    def slug(self) -> str:
        return f"gallery-{slug_of(self.scores[0])}"


class ShownFile(Settings):
    """A table or figure as people ask for it, e.g. ``puma/table2.csv``, and its stage."""

    target: str
    kind: Literal["tables", "figures"]
    stage: Annotated[StageId, Ref(kind_in="kind")]


class ReportStage(Stage):
    """One page with tables, figures, what pruning drops, and how all of it was made."""

    room = "report.stage"
    modules = ("report.explorer", "report.page", "report.provenance", "report.stage")
    local = True
    rule = "report_page"
    files = ("report.html",)
    kind: Literal["reports"] = "reports"
    preset: str
    dataset: str
    shown: tuple[ShownFile, ...] = Field(min_length=1)
    impossible: tuple[str, ...] = Field(description="files that were asked for, but the configuration does not allow")
    galleries: tuple[Annotated[StageId, Ref("galleries")], ...]

    @property
    def slug(self) -> str:
        return f"report-{self.dataset}"
