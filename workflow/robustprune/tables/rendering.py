"""A table for people: Markdown and LaTeX, ours, the printed number and the difference side by side."""

from collections.abc import Mapping, Sequence

import pandas as pd

from robustprune.settings.tables import QuantityName
from robustprune.specs import TableSpec
from robustprune.tables.cells import Cell, Sample
from robustprune.tables.claims import RULE, Judged
from robustprune.tables.quantities import QUANTITIES
from robustprune.tables.rows import Beside, Row, difference
from robustprune.tables.statistics import Summary

DEFINITION = 1

CLAIM_COLUMNS = r"p{.4\linewidth}p{.4\linewidth}l"
MEDIAN_FROM = 10  # runs, from which on a median says something that mean and spread do not
SPREAD_WORDS = {"std": "standard deviation over n runs", "ci95": "half of the 95 % interval of the mean over n runs"}


def table_for_people(spec: TableSpec, rows: Sequence[Row]) -> pd.DataFrame:
    """The table as text: for each quantity a column of ours and, where the paper prints it, two more."""
    spreads = {name: _spread(name, rows) for name in rows[0].cells}
    return pd.DataFrame([_line(spec, row, spreads) for row in rows]).fillna("")


def markdown(spec: TableSpec, rows: Sequence[Row], judged: Sequence[Judged]) -> str:
    """The page beside the CSV: title, table, what the numbers are, and what became of the paper's claims."""
    parts = [f"# {spec.title}", _piped(table_for_people(spec, rows)), _legend(spec, rows)]
    if judged:
        parts += ["## What the paper claims", _piped(_claims(judged)), RULE]
    return "\n\n".join(parts) + "\n"


def latex(spec: TableSpec, rows: Sequence[Row], judged: Sequence[Judged]) -> str:
    """The same as ``tabular`` environments, for a paper with the packages booktabs and longtable."""
    people = table_for_people(spec, rows)
    parts = [f"% {spec.title}", people.to_latex(index=False, escape=True)]
    parts += [f"% {line}" for line in _legend(spec, rows).splitlines()]
    if judged:
        parts.append(_claims(judged).to_latex(index=False, escape=True, column_format=CLAIM_COLUMNS))
        parts.append(f"% {RULE}")
    return "\n".join(parts) + "\n"


def _line(spec: TableSpec, row: Row, spreads: Mapping[QuantityName, str]) -> dict[str, str]:
    line = {"method": row.method}
    for name, cell in row.cells.items():
        quantity = QUANTITIES[name]
        line[quantity.heading] = in_words(cell, quantity.decimals, spreads[name])
        if spec.printed is not None and name in spec.printed.beside:
            line |= _printed_cells(name, cell, row.beside.get(name))
    return line


def _printed_cells(name: QuantityName, cell: Cell, beside: Beside | None) -> dict[str, str]:
    quantity = QUANTITIES[name]
    printed, gap = f"{quantity.heading}: printed", f"{quantity.heading}: difference"
    if beside is None or beside.value is None:
        return {printed: "", gap: ""}
    value = beside.value if isinstance(beside.value, str) else f"{beside.value:.{quantity.decimals}f}"
    if isinstance(cell, str):
        value = beside.text
    spread = "".join(f" +- {width:.{quantity.decimals}f}" for width in beside.spreads.values())
    return {printed: value + spread, gap: _signed(difference(cell, beside, quantity.decimals), quantity.decimals)}


def _signed(value: float | str | None, decimals: int) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:+.{decimals}f}"


def in_words(cell: Cell, decimals: int, spread: str = "std") -> str:
    """A cell as text; a mean never without its number of runs."""
    if isinstance(cell, Sample):
        return _mean(cell.summary, decimals, spread)
    if cell is None or isinstance(cell, str):
        return cell or ""
    return f"{cell:,.{decimals}f}"


def _mean(summary: Summary, decimals: int, spread: str) -> str:
    width = getattr(summary, spread)
    plus_minus = "" if width is None else f" +- {width:.{decimals}f}"
    median = f", median {summary.median:.{decimals}f}" if summary.n >= MEDIAN_FROM else ""
    return f"{summary.mean:.{decimals}f}{plus_minus} (n = {summary.n}{median})"


def _spread(name: QuantityName, rows: Sequence[Row]) -> str:
    """The spread that the paper prints beside a quantity, so that like stands beside like."""
    printed = [spread for row in rows if name in row.beside for spread in row.beside[name].spreads]
    return printed[0] if printed else QUANTITIES[name].spread


def _legend(spec: TableSpec, rows: Sequence[Row]) -> str:
    samples = [name for name in rows[0].cells if any(isinstance(row.cells[name], Sample) for row in rows)]
    spreads = dict.fromkeys(_spread(name, rows) for name in samples)
    lines = [f"+-: {SPREAD_WORDS[spread]}." for spread in spreads]
    if spec.printed is not None:
        lines.append(f"Printed: {spec.printed.setting}. Difference: ours minus printed.")
    if spec.baseline is not None:
        lines.append(f"The columns *_change_* of the CSV are differences to {spec.baseline}, seed by seed.")
    return "\n".join(lines)


def _claims(judged: Sequence[Judged]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"claim": one.claim, "found": "; ".join(one.found), "this run": one.verdict} for one in judged]
    )


def _piped(table: pd.DataFrame) -> str:
    return table.to_markdown(index=False, disable_numparse=True)
