"""What stands beside a table: printed numbers and what its paper claims."""

from pydantic import Field

from robustprune.core.settings import Line, Settings
from robustprune.experiments.claim_settings import Relation
from robustprune.experiments.tables.quantity import QuantityName
from robustprune.images.settings import DataName

Cells = str | dict[str, str]
"""Which printed row: the text in the file's first column, or in each of some columns."""


class Printed(Settings):
    """The numbers that a paper prints."""

    file: str = Field(pattern=r"^\w+\.csv$", description="in workflow/reference")
    setting: Line = Field(description="what they were measured on and with, for readers")
    beside: dict[QuantityName, str] = Field(description="the file's column that stands beside a quantity of ours")
    instead: dict[DataName, dict[str, str | None]] = Field(
        {},
        description="by the name of our data set: cells of the file that stand in for those that rows name; null: none",
    )


class Check(Relation):
    """One inequality between two rows of a table, or between a row and a number."""

    quantity: QuantityName
    row: str = Field(description="method of the row")
