"""A table as Markdown and LaTeX: our number, the printed one and the difference side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from robustprune.core.settings import Settings
from robustprune.experiments.claims import RULE, Judged
from robustprune.experiments.intervals import Cell, Sample
from robustprune.experiments.tables.quantity import QUANTITIES
from robustprune.experiments.tables.table_rows import TableRow, difference

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
    """A cell as text: our number, the printed one, and ours minus printed."""

    ours: str
    printed: str = ""
    difference: str = ""


class ShownTable(Settings):
    """A table as text, for pages that lay it out themselves.

    Attributes:
        headings: of the quantities.
        beside: for each quantity, True if the paper prints it.
        rows: the cells of each method.
        legend: a sentence a line.
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
    """Return a table as text, from which every page of it is made."""
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
    """Return the table with a column of ours for each quantity and, where the paper prints it, two more."""
    lines = []
    for method, cells in shown.rows.items():
        line = {"method": method}
        for heading, beside, cell in zip(shown.headings, shown.beside, cells, strict=True):
            line[heading] = cell.ours
            if beside:
                line |= {f"{heading}: printed": cell.printed, f"{heading}: difference": cell.difference}
        lines.append(line)
    return pd.DataFrame(lines)


def markdown(shown: ShownTable) -> str:
    """Return the page next to the CSV: title, table, legend, and the verdicts on the paper's claims."""
    parts = [f"# {shown.title}", _piped(table_for_people(shown)), "\n".join(shown.legend)]
    if shown.claims:
        parts += ["## What the paper claims", _piped(_claims(shown.claims)), shown.rule]
    return "\n\n".join(parts) + "\n"


def latex(shown: ShownTable) -> str:
    """Return the same as ``tabular`` environments, for a paper with the package booktabs."""
    parts = [f"% {shown.title}", _tabular(table_for_people(shown))]
    parts += [f"% {line}" for line in shown.legend]
    if shown.claims:
        parts.append(_tabular(_claims(shown.claims), CLAIM_COLUMNS))
        parts.append(f"% {shown.rule}")
    return "\n".join(parts) + "\n"


def _cell(row: TableRow, name: QuantityName, spread: str) -> ShownCell:
    cell, beside, decimals = row.cells[name], row.beside.get(name), QUANTITIES[name].decimals
    ours = in_words(cell, decimals, spread)
    if beside is None or beside.value is None:
        return ShownCell(ours=ours)
    is_text = isinstance(cell, str) or isinstance(beside.value, str)
    printed = beside.text if is_text else f"{beside.value:.{decimals}f}"
    printed += "".join(f" +- {width:.{decimals}f}" for width in beside.spreads.values())
    gap = difference(cell, beside, decimals)
    signed = gap or "" if gap is None or isinstance(gap, str) else f"{gap:+.{decimals}f}"
    return ShownCell(ours=ours, printed=printed, difference=signed)


def in_words(cell: Cell, decimals: int, spread: str = "std") -> str:
    """Return a cell as text; a mean never without its number of runs."""
    if cell is None or isinstance(cell, str):
        return cell or ""
    if not isinstance(cell, Sample):
        return f"{cell:,.{decimals}f}"
    summary, width = cell.summary, cell.spread(spread)
    plus_minus = "" if width is None else f" +- {width:.{decimals}f}"
    median = f", median {summary.median:.{decimals}f}" if summary.n >= MEDIAN_FROM else ""
    return f"{summary.mean:.{decimals}f}{plus_minus} (n = {summary.n}{median})"


def _spread(name: QuantityName, rows: Sequence[TableRow]) -> str:
    """Return the spread that the paper prints with a quantity, so that ours can be compared with it."""
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
    """Return LaTeX, by the package that writes Markdown: pandas' Styler takes longer than all the rest."""
    text: str = table.to_markdown(index=False, disable_numparse=True, tablefmt="latex_booktabs")
    plain = "l" * len(table.columns)
    return text.replace("|", r"\textbar{}").replace(f"{{{plain}}}", f"{{{column_format or plain}}}", 1)


def _piped(table: pd.DataFrame) -> str:
    escaped = table.map(lambda cell: cell.replace("|", r"\|"))  # a bare one ends a cell
    return escaped.to_markdown(index=False, disable_numparse=True)
