"""The papers' printed numbers, from ``workflow/reference``. Quick to import, since every plan looks them up."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from robustprune.core.errors import UserError
from robustprune.core.paths import REFERENCE

if TYPE_CHECKING:
    from robustprune.experiments.tables.row_specs import Cells, Printed

DEFINITION = {"tables.printed": 1}

SPREADS = ("std", "ci95")
"""The spreads of printed numbers: a standard deviation, or half of a 95 % interval."""


@cache
def read_printed(path: Path) -> tuple[Mapping[str, str], ...]:
    """Return the rows of a file of printed numbers, all cells as text. Raises UserError for a missing file."""
    try:
        with path.open(newline="") as file:
            return tuple(csv.DictReader(file, restval=""))
    except FileNotFoundError:
        raise UserError(f"printed numbers: there is no {path.name} in {path.parent}") from None


def printed_row(printed: Printed, cells: Cells) -> Mapping[str, str]:
    """Return the one row of a file that has these cells: the text in its first column, or in each of some columns.

    Raises UserError where there is no such file, column or row, or there are several such rows.
    """
    rows = read_printed(REFERENCE / printed.file)
    if not rows:
        raise UserError(f"{printed.file} has no row of printed numbers")
    columns = list(rows[0])
    wanted: Mapping[str, str] = cells if isinstance(cells, dict) else {columns[0]: cells}
    for column in (*wanted, *printed.beside.values()):
        if column not in columns:
            raise UserError(f"{printed.file} has no column {column!r}; it has {', '.join(columns)}")
    matching = [row for row in rows if all(row[column] == text for column, text in wanted.items())]
    if len(matching) != 1:
        known = "; ".join(dict.fromkeys(" ".join(row[column] for column in wanted) for row in rows))
        raise UserError(f"{printed.file} has {len(matching)} rows with {dict(wanted)}; it has {known}")
    return matching[0]
