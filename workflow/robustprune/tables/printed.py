"""The numbers that the papers print, from ``workflow/reference``."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from robustprune.config import REFERENCE
from robustprune.errors import UserError
from robustprune.settings.tables import Cells

DEFINITION = 1

SPREADS = ("std", "ci95")
"""What a printed number may have beside it: a standard deviation, or half of a 95 % interval."""


def read_printed(path: Path) -> pd.DataFrame:
    """A file of printed numbers, every cell as it was written; a cell that a paper does not print is empty."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def printed_row(file: str, cells: Cells) -> dict[str, str]:
    """The one row of a file that has these cells.

    Args:
        file: its name in ``workflow/reference``.
        cells: the text in its first column, or in each of some columns.

    Raises:
        UserError: where the file has no such column, no such row, or several.
    """
    numbers = read_printed(REFERENCE / file)
    wanted: Mapping[str, str] = cells if isinstance(cells, dict) else {str(numbers.columns[0]): cells}
    for column in wanted:
        if column not in numbers:
            raise UserError(f"{file} has no column {column!r}; it has {', '.join(map(str, numbers.columns))}")
    found = numbers
    for column, text in wanted.items():
        found = found[found[column] == text]
    if len(found) != 1:
        known = "; ".join(" ".join(row) for row in numbers[list(wanted)].drop_duplicates().itertuples(index=False))
        raise UserError(f"{file} has {len(found)} rows with {dict(wanted)}; it has {known}")
    return {str(column): str(text) for column, text in found.iloc[0].items()}
