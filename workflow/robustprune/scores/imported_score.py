"""The stage that imports scores measured elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from robustprune.core.errors import UserError
from robustprune.core.files import digest, file_digest
from robustprune.core.job import Job
from robustprune.core.npy import read_header
from robustprune.core.rows import Columns
from robustprune.core.settings import COLUMN_PATTERN, DIGEST_PATTERN, Settings
from robustprune.core.stage import slug_of
from robustprune.scores.score import Easy, Meaning, ScoreStage

if TYPE_CHECKING:
    from robustprune.images.pool import Pool


DEFINITION = {"scores.imported": 1}

ScoreFormat = Literal["csv", "npy", "parquet", "zarr"]
INDEX = "index"  # column of a table with the image's row in its pool


class ImportedScores(Settings):
    """Files with a score for each training image, and the meaning of the score.

    Files are CSV or Parquet with the columns ``index``, the image's row in its pool, and ``column``; npy with one
    number per image, in the pool's order; or the folder of a store, such as 'robustprune store pull' writes.
    """

    train: str = Field(description="file for the real training images: .csv | .npy | .parquet | .zarr")
    synthetic: str | None = Field(None, description="file for the generated images; null where none are learnt from")
    column: str = Field("score", pattern=COLUMN_PATTERN, description="the column with the score")
    unit: str = Field(pattern=r"^[^<>`\\\n]{1,200}$", description="what a value of 1 is, for people")
    easy: Easy = Field(description="the end at which the easy images are")
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
    """A score that was measured elsewhere, in the file at ``location`` with the digest ``digest``."""

    resources = "ingest"
    uses_device = False
    score: Literal["imported"] = "imported"
    format: ScoreFormat
    digest: str = Field(pattern=DIGEST_PATTERN)
    column: str
    unit: str
    easy: Easy
    location: str = Field("", description="path of the file; empty in a shared store")

    @property
    def slug(self) -> str:
        return f"imported-{self.column.replace('_', '')}-{slug_of(self.pool)}"

    def run(self, job: Job) -> dict[str, Any]:
        """Publish a store with the one column, one row per image; return what ``publish_score`` does.

        Raises UserError if the file changed since the plan was made, is malformed, or has not one number per image.
        """
        from robustprune.images.pool import open_pool
        from robustprune.scores.score_files import publish_score

        pool = open_pool(job.upstream("pools", self.pool))
        path = Path(self.location)
        file = _file_of(path, self.format)
        if not file.is_file() or digest(file) != self.digest:
            raise UserError(f"{path} is not as it was when the plan was made; bring it back or plan again")
        meaning = Meaning(column=self.column, unit=self.unit, easy=self.easy, sign="as its owner says")
        return publish_score(job, self, _without_nan(self._blocks(path, pool), path), meaning, pool, {})

    def _blocks(self, path: Path, pool: Pool) -> Iterable[Columns]:
        if self.format == "zarr":
            return _of_store(path, self.column, pool)
        if self.format == "npy":
            values = _of_npy(path, len(pool))
        else:
            values = _of_table(path, self.format, self.column, len(pool))
        with np.errstate(over="ignore"):
            rounded = np.asarray(values, np.float32)
        if len(lost := np.flatnonzero(np.isinf(rounded) & np.isfinite(values))):  # inf means: no boundary
            raise UserError(f"{path}: the score of image {lost[0]} is {values[lost[0]]}, which float32 cannot hold")
        return [{self.column: rounded}]


def _file_of(path: Path, form: str) -> Path:
    """Return the file whose digest identifies the scores."""
    return path / "zarr.json" if form == "zarr" else path


def _without_nan(blocks: Iterable[Columns], path: Path) -> Iterator[Columns]:
    first = 0
    for block in blocks:
        (values,) = block.values()
        if len(missing := np.flatnonzero(np.isnan(values))):
            raise UserError(f"{path}: the score of image {first + missing[0]} is NaN, but each image needs a number")
        first += len(values)
        yield block


def _of_store(path: Path, column: str, pool: Pool) -> Iterator[Columns]:
    """Return a column of a store of the same images, after checking every byte of the store."""
    from robustprune.scores.store.reader import open_store

    store = open_store(path, pool_digest=pool.info.digest)
    if store.rows != len(pool):
        raise UserError(f"{path} has {store.rows} rows, but should have {len(pool)}, one an image")
    if problems := store.problems():
        raise UserError(f"{path}: {problems[0]}")
    if store.epochs is not None or store.dtypes.get(column) != "float32":
        raise UserError(f"{path} should have a column {column!r} of float32; it has {store.dtypes}")
    return store.blocks(column)


def _of_npy(path: Path, count: int) -> npt.NDArray[Any]:
    try:
        with path.open("rb") as file:
            shape, _, dtype = read_header(file)
        if shape == (count,) and dtype.kind in "fiu":
            values: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            return values
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable npy file: {error}") from None
    raise UserError(f"{path} is {dtype} {shape}, but should be numbers ({count},), one an image")


def _of_table(path: Path, form: str, column: str, count: int) -> npt.NDArray[np.float64]:
    """Return a column of a CSV or Parquet file, (count,), in the order of the images."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if form == "csv":
            table = pd.read_csv(path, usecols=[INDEX, column], dtype={INDEX: np.int64, column: np.float64})
        else:
            read = pq.read_table(path, columns=[INDEX, column])
            if read[INDEX].null_count:
                raise UserError(f"{path}: {read[INDEX].null_count} of {len(read)} rows have no {INDEX}")
            table = pd.DataFrame({INDEX: read[INDEX].cast(pa.int64()), column: read[column].cast(pa.float64())})
    except (OSError, ValueError, KeyError, OverflowError, pa.ArrowException) as error:
        raise UserError(f"{path} should have the columns {INDEX} and {column}, of numbers: {error}") from None
    index = table[INDEX].to_numpy()
    outside = (index < 0) | (index >= count)
    if outside.any():
        raise UserError(f"{path}: {INDEX} = {index[outside][0]} is not one of the {count} images, 0 ... {count - 1}")
    times = np.bincount(index, minlength=count)
    for wrong, what in ((times > 1, "more than once"), (times == 0, "not at all")):
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise UserError(f"{path}: image {first} has a score {what}, as have {int(wrong.sum()) - 1} others")
    ordered = np.empty(count)
    ordered[index] = table[column]
    return ordered


def imported_scores(name: str, settings: ImportedScores, role: str) -> dict[str, str]:
    """Return the format, digest and location of the file with the scores of the ``train`` or ``synthetic`` images.

    Raises UserError if the key or the file is missing, or its suffix is not a known format.
    """
    key, location = f"imported.{name}.{role}", getattr(settings, role)
    if location is None:
        raise UserError(f"{key} is missing, but a row prunes {role} images by these scores; set it to a file")
    path, form = Path(location), Path(location).suffix.removeprefix(".")
    if form not in get_args(ScoreFormat):
        raise UserError(f"{key} = {location} should end in .{', .'.join(get_args(ScoreFormat))}")
    file = _file_of(path, form)
    if not file.is_file():
        raise UserError(f"{key} = {location}: there is no file {file}")
    return {"format": form, "digest": file_digest(file), "location": str(path.absolute())}
