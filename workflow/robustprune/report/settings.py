"""What the report shows."""

from pydantic import Field

from robustprune.core.settings import Settings


class ReportSettings(Settings):
    """The page ``results/report.html``; it needs all that it shows."""

    shows: tuple[str, ...] = Field(
        ("table1.csv",),
        min_length=1,
        description="tables and figures under results/, by name or pattern: puma/table2.csv, puma/*, *",
    )
