"""The stage that makes the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.files import data_uri, write_text
from robustprune.core.job import Job
from robustprune.core.marks import Ref
from robustprune.core.paths import CAPTION_FILE, FIGURE_FILE
from robustprune.core.settings import Settings
from robustprune.core.stage import Stage, StageId
from robustprune.experiments.tables.table import SHOWN_FILE
from robustprune.report.provenance import by_kind, stages_behind, versions

if TYPE_CHECKING:
    from robustprune.experiments.tables.rendering import ShownTable


DEFINITION = {"report.stage": 1}

REPORT_FILE = "report.html"


class Figure(NamedTuple):
    """A figure on the page.

    Attributes:
        target: the file that people ask for.
        title: the first sentence of its caption.
        sentences: the others.
        picture: its SVG as a data URI; in a picture of its own, names in it cannot clash and nothing in it runs.
    """

    target: str
    title: str
    sentences: list[str]
    picture: str


class ShownFile(Settings):
    """A table or figure as people ask for it, e.g. ``puma/table2.csv``, and its stage."""

    target: str
    kind: Literal["tables", "figures"]
    stage: Annotated[StageId, Ref(kind_in="kind")]


class ReportStage(Stage):
    """One page with tables, figures, what pruning drops, and how all of it was made."""

    sentence = "this page"
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

    def run(self, job: Job) -> dict[str, Any]:
        """Write report.html.

        Returns:
            the numbers of tables, figures and galleries, and the size of the page.

        Raises:
            UserError: when something that it shows is damaged.
        """
        from robustprune.report.explorer import explorers
        from robustprune.report.page import render

        stages = stages_behind(job, self.upstream)
        tables = {one.target: _table(job, one) for one in self.shown if one.kind == "tables"}
        figures = [_figure(job, one) for one in self.shown if one.kind == "figures"]
        page = render(
            {
                "spec": self,
                "tables": tables,
                "figures": figures,
                "explorers": explorers(job, stages, self.galleries),
                "kinds": by_kind(stages),
                "versions": versions(stages),
            }
        )
        write_text(job.partial / REPORT_FILE, page)
        job.publish(REPORT_FILE)
        counts = {"tables": len(tables), "figures": len(figures), "galleries": len(self.galleries)}
        return {**counts, "bytes": len(page.encode())}


def _table(job: Job, one: ShownFile) -> ShownTable:
    from robustprune.experiments.tables.rendering import ShownTable

    path = job.upstream("tables", one.stage) / SHOWN_FILE
    try:
        return ShownTable.model_validate_json(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable table: {' '.join(str(error).split())}") from None


def _figure(job: Job, one: ShownFile) -> Figure:
    directory = job.upstream("figures", one.stage)
    try:
        title, *sentences = (directory / CAPTION_FILE).read_text().strip().split("\n\n")
        return Figure(one.target, title, sentences, data_uri(directory / FIGURE_FILE, "image/svg+xml"))
    except OSError as error:
        raise UserError(f"{directory} has no readable figure: {error}") from None
