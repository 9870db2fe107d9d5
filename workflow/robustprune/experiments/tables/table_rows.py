"""The lines of a table: the quantities of each row over its runs, beside the printed numbers and the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from robustprune.experiments.claim_settings import Claim
from robustprune.experiments.claims import Finding, Judged, judged, measured
from robustprune.experiments.intervals import Cell, Sample, number_of
from robustprune.experiments.tables.printed import SPREADS, printed_row
from robustprune.experiments.tables.quantity import QUANTITIES, QuantityName
from robustprune.experiments.tables.row_specs import Cells, Check, Printed

if TYPE_CHECKING:
    from robustprune.experiments.runs import RowRuns
    from robustprune.experiments.tables.row_specs import RowSpec
    from robustprune.experiments.tables.table import TableStage

DEFINITION = {"tables.rows": 4}

Line = dict[str, Any]
"""A row of the CSV: the method, then the columns of each quantity."""

Shown = dict[QuantityName, Cell]
"""The cells of a row."""

LEFT_OUT = ("_std", "_median")  # of changes
ROUNDED_BEYOND = 2  # digits in the CSV behind those that a quantity shows


@dataclass(frozen=True)
class Beside:
    """Printed numbers beside one quantity of one row.

    Attributes:
        text: the cell as it is printed.
        spreads: of std and ci95 those that it prints.
    """

    text: str
    spreads: Mapping[str, float]

    @property
    def value(self) -> float | str | None:
        """The number, or the text where it is none; None where the cell is empty."""
        try:
            return float(self.text)
        except ValueError:
            return self.text or None


@dataclass(frozen=True)
class TableRow:
    """A row as it is shown.

    Attributes:
        method: its first cell.
        cells: those of each quantity.
        beside: what the paper prints for some of them.
    """

    method: str
    cells: Shown
    beside: Mapping[QuantityName, Beside]


def row_of(spec: TableStage, row: RowSpec, runs: RowRuns) -> TableRow:
    """A row of a table. Raises UserError where the printed numbers have no row of the name that it gives."""
    cells = {name: QUANTITIES[name].cell(runs) for name in spec.quantities}
    return TableRow(row.method, cells, printed_beside(spec.printed, row.printed))


def without_empty_columns(rows: Sequence[TableRow]) -> list[TableRow]:
    """The rows without the quantities that none of them tells."""
    told = {name for row in rows for name, cell in row.cells.items() if cell is not None}
    return [replace(row, cells={name: cell for name, cell in row.cells.items() if name in told}) for row in rows]


def printed_beside(printed: Printed | None, cells: Cells | None) -> dict[QuantityName, Beside]:
    """Return what the paper prints for each quantity of a row. Raises UserError where its file has no such row."""
    if printed is None or cells is None:
        return {}
    row = printed_row(printed, cells)
    return {name: _beside(row, column) for name, column in printed.beside.items()}


def _beside(row: Mapping[str, str], column: str) -> Beside:
    spreads = {spread: float(text) for spread in SPREADS if (text := row.get(f"{column}_{spread}"))}
    return Beside(row[column], spreads)


def line_of(spec: TableStage, row: TableRow, baseline: Shown) -> Line:
    """One line of the CSV.

    Args:
        spec: the table.
        row: the row.
        baseline: the baseline's cells; empty where there is none, or where the row is the baseline.
    """
    line: Line = {"method": row.method}
    for name, cell in row.cells.items():
        digits = QUANTITIES[name].decimals + ROUNDED_BEYOND
        line |= _columns(name, cell, digits)
        line |= _change(name, cell, baseline.get(name), digits)
        line |= _printed_columns(name, cell, row.beside.get(name), digits)
    if row.beside and spec.printed is not None:
        line["printed_setting"] = spec.printed.setting
    return line


def _columns(name: str, cell: Cell, digits: int) -> Line:
    if not isinstance(cell, Sample):
        return {name: _rounded(cell, digits)}
    return {column: _rounded(value, digits) for column, value in cell.columns(name).items()}


def _change(name: QuantityName, cell: Cell, baseline: Cell, digits: int) -> Line:
    """The difference to the baseline, seed by seed, over the seeds that both have."""
    if not (QUANTITIES[name].against_baseline and isinstance(cell, Sample) and isinstance(baseline, Sample)):
        return {}
    if not cell.by_seed.keys() & baseline.by_seed.keys():
        return {}
    change = cell.minus(baseline).columns(f"{name}_change")
    return {column: _rounded(value, digits) for column, value in change.items() if not column.endswith(LEFT_OUT)}


def _printed_columns(name: str, cell: Cell, beside: Beside | None, digits: int) -> Line:
    if beside is None:
        return {}
    spreads = {f"printed_{name}_{spread}": value for spread, value in beside.spreads.items()}
    return {f"printed_{name}": beside.value, **spreads, f"difference_{name}": difference(cell, beside, digits)}


def difference(cell: Cell, beside: Beside, digits: int) -> float | str | None:
    """Ours minus the printed number; of texts whether they are the same; None where either is missing."""
    if cell is None or beside.value is None:
        return None
    ours = number_of(cell)
    if isinstance(cell, str):
        return "same" if cell.casefold() == beside.text.casefold() else "differs"
    return None if ours is None or isinstance(beside.value, str) else round(ours - beside.value, digits)


def _rounded(value: Any, digits: int) -> Any:
    return round(value, digits) if isinstance(value, float) else value


def judge(claim: Claim[Check], rows: Mapping[str, Shown]) -> Judged:
    """Judge a claim by the cells of each method."""
    return judged(claim.claim, [_measured(check, rows) for check in claim.checks])


def _measured(check: Check, rows: Mapping[str, Shown]) -> Finding:
    cell = rows[check.row].get(check.quantity)
    other = rows[check.other].get(check.quantity) if isinstance(check.other, str) else check.other
    quantity = QUANTITIES[check.quantity]
    compared = f"{quantity.heading} of {check.row}", str(check.other)
    return measured(check, compared, cell, other, decimals=quantity.decimals)
