"""A table for people: Markdown and LaTeX, ours, the printed number and the difference side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from robustprune.core.settings import Settings
from robustprune.experiments.claims import RULE, Judged
from robustprune.experiments.intervals import Cell, Sample
from robustprune.experiments.tables.quantity import QUANTITIES
from robustprune.experiments.tables.rows import Beside, TableRow, difference

if TYPE_CHECKING:
    from robustprune.experiments.tables.quantity import QuantityName
    from robustprune.experiments.tables.table import TableStage

DEFINITION = {"tables.rendering": 5}

CLAIM_COLUMNS = r"p{.4\linewidth}p{.4\linewidth}l"
MEDIAN_FROM = 10  # runs, from which on a median says something that mean and spread do not
SPREAD_WORDS = {
    "std": "standard deviation over n runs",
    "ci95": "half of the 95 % interval of the mean, over n runs and, of accuracies, over test images",
    "ci95_seeds": "half of the 95 % interval of the mean over n runs, on these test images",
}
OURS = {"ci95": "ci95_seeds"}
"""Which of our spreads stands beside a printed one: papers print intervals over trainings."""


class ShownCell(Settings):
    """A cell as text.

    Attributes:
        ours: what was measured.
        printed: what the paper prints.
        difference: ours minus printed.
    """

    ours: str
    printed: str = ""
    difference: str = ""


class ShownTable(Settings):
    """A table for pages that lay it out themselves: text, and what became of the paper's claims.

    Attributes:
        headings: of the quantities.
        beside: for each quantity, whether the paper prints it.
        rows: the cells of each method.
        legend: a sentence a line.
        claims: of each claim its sentence, what was found, and the verdict.
        rule: by which claims are judged.
    """

    title: str
    headings: tuple[str, ...]
    beside: tuple[bool, ...]
    rows: dict[str, tuple[ShownCell, ...]]
    legend: tuple[str, ...]
    claims: tuple[Judged, ...]
    rule: str = RULE


def shown_table(spec: TableStage, rows: Sequence[TableRow], judged: Sequence[Judged]) -> ShownTable:
    """A table as text, from which every page of it is made."""
    spreads = {name: _spread(name, rows) for name in rows[0].cells}
    beside = () if spec.printed is None else spec.printed.beside
    return ShownTable(
        title=spec.title,
        headings=tuple(QUANTITIES[name].heading for name in rows[0].cells),
        beside=tuple(name in beside for name in rows[0].cells),
        rows={row.method: tuple(_cell(row, name, spreads[name]) for name in row.cells) for row in rows},
        legend=tuple(_legend(spec, rows)),
        claims=tuple(judged),
    )


def table_for_people(shown: ShownTable) -> pd.DataFrame:
    """For each quantity a column of ours and, where the paper prints it, two more."""
    return pd.DataFrame([_line(shown, method) for method in shown.rows])


def markdown(shown: ShownTable) -> str:
    """The page beside the CSV: title, table, what the numbers are, and what became of the paper's claims."""
    parts = [f"# {shown.title}", _piped(table_for_people(shown)), "\n".join(shown.legend)]
    if shown.claims:
        parts += ["## What the paper claims", _piped(_claims(shown.claims)), shown.rule]
    return "\n\n".join(parts) + "\n"


def latex(shown: ShownTable) -> str:
    """The same as ``tabular`` environments, for a paper with the package booktabs."""
    parts = [f"% {shown.title}", _tabular(table_for_people(shown))]
    parts += [f"% {line}" for line in shown.legend]
    if shown.claims:
        parts.append(_tabular(_claims(shown.claims), CLAIM_COLUMNS))
        parts.append(f"% {shown.rule}")
    return "\n".join(parts) + "\n"


def _line(shown: ShownTable, method: str) -> dict[str, str]:
    line = {"method": method}
    for heading, beside, cell in zip(shown.headings, shown.beside, shown.rows[method], strict=True):
        line[heading] = cell.ours
        if beside:
            line |= {f"{heading}: printed": cell.printed, f"{heading}: difference": cell.difference}
    return line


def _cell(row: TableRow, name: QuantityName, spread: str) -> ShownCell:
    cell, beside, decimals = row.cells[name], row.beside.get(name), QUANTITIES[name].decimals
    ours = in_words(cell, decimals, spread)
    if beside is None or beside.value is None:
        return ShownCell(ours=ours)
    gap = _signed(difference(cell, beside, decimals), decimals)
    return ShownCell(ours=ours, printed=_printed(cell, beside, decimals), difference=gap)


def _printed(cell: Cell, beside: Beside, decimals: int) -> str:
    text = beside.text if isinstance(cell, str) or isinstance(beside.value, str) else f"{beside.value:.{decimals}f}"
    return text + "".join(f" +- {width:.{decimals}f}" for width in beside.spreads.values())


def _signed(value: float | str | None, decimals: int) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:+.{decimals}f}"


def in_words(cell: Cell, decimals: int, spread: str = "std") -> str:
    """A cell as text; a mean never without its number of runs."""
    if isinstance(cell, Sample):
        return _mean(cell, decimals, spread)
    if cell is None or isinstance(cell, str):
        return cell or ""
    return f"{cell:,.{decimals}f}"


def _mean(sample: Sample, decimals: int, spread: str) -> str:
    summary = sample.summary
    width = sample.spread(spread)
    plus_minus = "" if width is None else f" +- {width:.{decimals}f}"
    median = f", median {summary.median:.{decimals}f}" if summary.n >= MEDIAN_FROM else ""
    return f"{summary.mean:.{decimals}f}{plus_minus} (n = {summary.n}{median})"


def _spread(name: QuantityName, rows: Sequence[TableRow]) -> str:
    """The spread that the paper prints beside a quantity, so that like stands beside like."""
    printed = [spread for row in rows if name in row.beside for spread in row.beside[name].spreads]
    return OURS.get(printed[0], printed[0]) if printed else QUANTITIES[name].spread


def _legend(spec: TableStage, rows: Sequence[TableRow]) -> list[str]:
    shown_by: dict[str, list[str]] = {}
    for name in rows[0].cells:
        if any(isinstance(row.cells[name], Sample) for row in rows):
            shown_by.setdefault(_spread(name, rows), []).append(QUANTITIES[name].heading)
    of_which = {
        spread: f" of {'; '.join(headings)}" if len(shown_by) > 1 else "" for spread, headings in shown_by.items()
    }
    lines = [f"+-{which}: {SPREAD_WORDS[spread]}." for spread, which in of_which.items()]
    if spec.setting:
        lines.append(f"Ours: {spec.setting}.")
    if spec.spread:
        lines.append(f"Spread: {spec.spread}.")
    if spec.printed is not None:
        lines.append(f"Printed: {spec.printed.setting}. Difference: ours minus printed.")
    if baselines := dict.fromkeys(row.baseline for row in spec.rows if row.baseline is not None):
        of_its_norm = " (the one of a row's own norm)" if len(baselines) > 1 else ""
        compared = f"{' and '.join(baselines)}{of_its_norm}"
        lines.append(f"The columns *_change_* of the CSV are differences to {compared}, over the seeds that both have.")
    return lines


def _claims(judged: Sequence[Judged]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"claim": one.claim, "found": "; ".join(one.found), "this run": one.verdict} for one in judged]
    )


def _tabular(table: pd.DataFrame, column_format: str | None = None) -> str:
    """For LaTeX, by the package that writes Markdown: pandas' own way, by a Styler, takes longer than all the rest."""
    text: str = table.to_markdown(index=False, disable_numparse=True, tablefmt="latex_booktabs")
    plain = "l" * len(table.columns)
    return text.replace("|", r"\textbar{}").replace(f"{{{plain}}}", f"{{{column_format or plain}}}", 1)


def _piped(table: pd.DataFrame) -> str:
    escaped = table.map(lambda cell: cell.replace("|", r"\|"))  # a bare one ends a cell
    return escaped.to_markdown(index=False, disable_numparse=True)
