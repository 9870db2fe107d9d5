"""The stage that makes the report."""

from typing import Any, NamedTuple

from robustprune.core.errors import UserError
from robustprune.core.files import data_uri, write_text
from robustprune.core.job import Job
from robustprune.experiments.figures.style import CAPTION_FILE, FIGURE_FILE
from robustprune.experiments.tables.rendering import ShownTable
from robustprune.experiments.tables.stage import SHOWN_FILE
from robustprune.report.explorer import explorers
from robustprune.report.page import render
from robustprune.report.provenance import by_kind, stages_behind, versions
from robustprune.report.specs import ReportStage, ShownFile

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


def run(job: Job, spec: ReportStage) -> dict[str, Any]:
    """Write report.html.

    Returns:
        the numbers of tables, figures and galleries, and the size of the page.

    Raises:
        UserError: when something that it shows is damaged.
    """
    stages = stages_behind(job, spec.upstream)
    tables = {one.target: _table(job, one) for one in spec.shown if one.kind == "tables"}
    figures = [_figure(job, one) for one in spec.shown if one.kind == "figures"]
    page = render(
        {
            "spec": spec,
            "tables": tables,
            "figures": figures,
            "explorers": explorers(job, stages, spec.galleries),
            "kinds": by_kind(stages),
            "versions": versions(stages),
        }
    )
    write_text(job.partial / REPORT_FILE, page)
    job.publish(REPORT_FILE)
    counts = {"tables": len(tables), "figures": len(figures), "galleries": len(spec.galleries)}
    return {**counts, "bytes": len(page.encode())}


def _table(job: Job, one: ShownFile) -> ShownTable:
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
