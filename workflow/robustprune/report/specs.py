"""A page of all that was asked for."""

from typing import Literal

from pydantic import Field

from robustprune.core.settings import Settings
from robustprune.core.stage import Stage, StageId, slug_of


class GalleryStage(Stage):
    """How the scores of some pools are spread, what manifests drop of them, and some of the images.

    ``scores`` has an id for each of the pools; ``manifests`` choose among the images of these pools.
    """

    room = "report.gallery.stage"
    modules = ("gallery.counting", "gallery.cuts", "gallery.picks", "gallery.sprites", "pools.drawing", "randomness")
    uses_device = False
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


class ShownFile(Settings):
    """A table or figure as people ask for it, e.g. ``puma/table2.csv``, and its stage."""

    target: str
    kind: Literal["tables", "figures"]
    stage: StageId


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
    galleries: tuple[StageId, ...]

    @property
    def slug(self) -> str:
        return f"report-{self.dataset}"

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        shown = dict.fromkeys((one.kind, one.stage) for one in self.shown)
        return (*shown, *(("galleries", gallery) for gallery in self.galleries))
