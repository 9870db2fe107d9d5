"""Scores that were measured elsewhere."""

from typing import Literal

from pydantic import Field, field_validator

from robustprune.settings.base import COLUMN_PATTERN, Settings

ScoreFormat = Literal["csv", "npy", "parquet", "zarr"]
INDEX = "index"  # the column of a table that says which image


class ImportedScores(Settings):
    """A score for each training image, in files: what a column of them says.

    Files are CSV or Parquet with the columns ``index``, the image's row in its pool, and ``column``; npy with one
    number an image, in the pool's order; or a store's folder, such as 'robustprune store pull' brings.
    """

    train: str = Field(description="file for the real training images: .csv | .npy | .parquet | .zarr")
    synthetic: str | None = Field(None, description="file for the generated images; null where none are learnt from")
    column: str = Field("score", pattern=COLUMN_PATTERN, description="the column with the score")
    unit: str = Field(pattern=r"^[^<>`\\\n]{1,200}$", description="what a value of 1 is, for people")
    easy: Literal["high", "low"] = Field(description="the end at which the easy images are")
    margins: bool = Field(
        False,
        description="whether they are signed margins in the norm of the threat model, which radii can follow",
    )

    @field_validator("column")
    @classmethod
    def _is_not_the_index(cls, column: str) -> str:
        if column == INDEX:
            raise ValueError(f"{INDEX} is the column that says which image; name the one with the score")
        return column
