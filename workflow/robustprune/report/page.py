"""The report: one HTML page, and the stage that makes it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
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


DEFINITION = {"report.page": 3, "report.stage": 1}

REPORT_FILE = "report.html"


class ReportSettings(Settings):
    """The page ``results/report.html``; it needs all that it shows."""

    shows: tuple[str, ...] = Field(
        ("table1.csv",),
        min_length=1,
        description="tables and figures under results/, by name or pattern: puma/table2.csv, puma/*, *",
    )


class Figure(NamedTuple):
    """A figure on the page: the file that people ask for, its caption, and its SVG as a data URI.

    In a picture of its own, names in the SVG cannot clash, and nothing in it runs.
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
        """Write report.html. Raises UserError when something that it shows is damaged."""
        from robustprune.report.explorer import explorers

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


def render(content: Mapping[str, Any]) -> str:
    """Return the page with style, script and pictures in it; all text in ``content`` is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("robustprune", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"time": in_words, "number": "{:,}".format}
    files = resources.files("robustprune.report")
    template = environment.get_template("report.html.jinja")
    style, script = (files.joinpath(name).read_text() for name in ("style.css", "explorer.js"))
    return template.render(style=style, script=script, **content)


def in_words(seconds: float) -> str:
    """Return a time in its two largest units."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min"
