"""A page of all that was asked for."""

from typing import Literal

from pydantic import Field

from robustprune.settings import Settings
from robustprune.specs.base import Spec, StageId


class ShownFile(Settings):
    """A table or figure as people ask for it, e.g. ``puma/table2.csv``, and its stage."""

    target: str
    kind: Literal["tables", "figures"]
    stage: StageId


class ReportSpec(Spec):
    """One page with tables, figures, what pruning drops, and how all of it was made."""

    room = "report.stage"
    modules = ("report.explorer", "report.page", "report.provenance", "report.stage")
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
