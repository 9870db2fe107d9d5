"""The stage that brings in scores which were measured elsewhere, as a store like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from robustprune.core.digests import file_digest
from robustprune.core.errors import UserError
from robustprune.core.files import digest
from robustprune.core.job import Job
from robustprune.core.npy import read_header
from robustprune.core.rows import Columns
from robustprune.core.settings import COLUMN_PATTERN, DIGEST_PATTERN, Settings
from robustprune.core.stage import slug_of
from robustprune.scores.score import ScoreStage

if TYPE_CHECKING:
    from robustprune.images.pool import Pool


DEFINITION = {"scores.imported": 1}

Values = npt.NDArray[np.float32]


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


class ImportedScoreStage(ScoreStage):
    """A score that was measured elsewhere. ``digest`` is what its file is, ``location`` where it lies now."""

    resources = "ingest"
    uses_device = False
    kind: Literal["scores"] = "scores"
    score: Literal["imported"] = "imported"
    format: ScoreFormat
    digest: str = Field(pattern=DIGEST_PATTERN)
    column: str
    unit: str
    easy: Literal["high", "low"]
    location: str = Field("", description="none in a shared store, which does not tell where the file lay")

    @property
    def slug(self) -> str:
        return f"imported-{self.column.replace('_', '')}-{slug_of(self.pool)}"

    def run(self, job: Job) -> dict[str, Any]:
        """Publish a store with the one column, a row a sample.

        Returns:
            what ``publish_score`` found.

        Raises:
            UserError: when the file changed since the plan was made, is malformed, or has not one number for each
            image.
        """
        from robustprune.images.pool import open_pool
        from robustprune.scores.files import Meaning, publish_score
        from robustprune.scores.store.layout import GROUP_FILE

        pool = open_pool(job.upstream("pools", self.pool))
        path = Path(self.location)
        found = digest(path / GROUP_FILE if self.format == "zarr" else path) if path.exists() else "gone"
        if found != self.digest:
            raise UserError(f"{path} is not as it was when the plan was made; bring it back or plan again")
        if self.format == "zarr":
            blocks = _of_store(path, self.column, pool)
        else:
            blocks = iter([{self.column: READERS[self.format](path, self.column, len(pool))}])
        meaning = Meaning(column=self.column, unit=self.unit, easy=self.easy, sign="as its owner says")
        return publish_score(job, self, _without_nan(blocks, path), meaning, pool, {})


def _without_nan(blocks: Iterable[Columns], path: Path) -> Iterator[Columns]:
    first = 0
    for block in blocks:
        (values,) = block.values()
        if len(missing := np.flatnonzero(np.isnan(values))):
            raise UserError(f"{path}: the score of image {first + missing[0]} is NaN, but each image needs a number")
        first += len(values)
        yield block


def _of_store(path: Path, column: str, pool: Pool) -> Iterator[Columns]:
    """A column of a store about the same images, after every byte of it was checked."""
    from robustprune.scores.store.reading import open_store

    store = open_store(path, pool_digest=pool.info.digest)
    if store.rows != len(pool):
        raise UserError(f"{path} has {store.rows} rows, but should have {len(pool)}, one an image")
    if problems := store.problems():
        raise UserError(f"{path}: {problems[0]}")
    if store.epochs is not None or store.dtypes.get(column) != "float32":
        raise UserError(f"{path} should have a column {column!r} of float32; it has {store.dtypes}")
    return store.blocks(column)


def _of_npy(path: Path, _column: str, count: int) -> Values:
    try:
        with path.open("rb") as file:
            shape, _, dtype = read_header(file)
        if shape == (count,) and dtype.kind in "fiu":
            return _float32(path, np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable npy file: {error}") from None
    raise UserError(f"{path} is {dtype} {shape}, but should be numbers ({count},), one an image")


def _of_csv(path: Path, column: str, count: int) -> Values:
    import pandas as pd
    from pandas.errors import EmptyDataError, ParserError

    try:
        table = pd.read_csv(path, usecols=[INDEX, column], dtype={INDEX: np.int64, column: np.float64})
    except (OSError, ValueError, OverflowError, EmptyDataError, ParserError) as error:
        raise UserError(f"{path} should have the columns {INDEX} and {column}, of numbers: {error}") from None
    return _by_index(path, table[INDEX].to_numpy(), table[column].to_numpy(), count)


def _of_parquet(path: Path, column: str, count: int) -> Values:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=[INDEX, column])
        if table[INDEX].null_count:
            raise UserError(f"{path}: {table[INDEX].null_count} of {len(table)} rows have no {INDEX}")
        index = table[INDEX].cast(pa.int64()).to_numpy()
        values = table[column].cast(pa.float64()).to_numpy()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{path} should have the columns {INDEX} and {column}, of numbers: {error}") from None
    return _by_index(path, index, values, count)


def _by_index(path: Path, index: npt.NDArray[np.int64], values: npt.NDArray[np.float64], count: int) -> Values:
    """(count,) the values in the order of the images."""
    outside = (index < 0) | (index >= count)
    if outside.any():
        raise UserError(f"{path}: {INDEX} = {index[outside][0]} is not one of the {count} images, 0 ... {count - 1}")
    times = np.bincount(index, minlength=count)
    for wrong, what in ((times > 1, "more than once"), (times == 0, "not at all")):
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise UserError(f"{path}: image {first} has a score {what}, as have {int(wrong.sum()) - 1} others")
    ordered = np.empty(count)
    ordered[index] = values
    return _float32(path, ordered)


def _float32(path: Path, values: npt.NDArray[Any]) -> Values:
    """A number that becomes infinite would stand for an image without a boundary."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(values, np.float32)
    if len(lost := np.flatnonzero(np.isinf(rounded) & np.isfinite(values))):
        raise UserError(f"{path}: the score of image {lost[0]} is {values[lost[0]]}, which float32 cannot hold")
    return rounded


READERS: dict[str, Callable[[Path, str, int], Values]] = {"csv": _of_csv, "npy": _of_npy, "parquet": _of_parquet}


def imported_scores(name: str, settings: ImportedScores, role: str) -> dict[str, str]:
    """Return the format, digest and location of the file with the scores of the real or the generated images.

    Raises:
        UserError: if the key is missing, the file is missing, or its suffix is not a known format.
    """
    key, location = f"imported.{name}.{role}", getattr(settings, role)
    if location is None:
        raise UserError(f"{key} is missing, but a row prunes {role} images by these scores; set it to a file")
    path, form = Path(location), Path(location).suffix.removeprefix(".")
    if form not in get_args(ScoreFormat):
        raise UserError(f"{key} = {location} should end in .{', .'.join(get_args(ScoreFormat))}")
    file = path / "zarr.json" if form == "zarr" else path
    if not file.is_file():
        raise UserError(f"{key} = {location}: there is no file {file}")
    return {"format": form, "digest": file_digest(file), "location": str(path.absolute())}
