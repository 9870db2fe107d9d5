"""The stage that brings in scores which were measured elsewhere, as a store like any other."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.errors import EmptyDataError, ParserError

from robustprune.core.errors import UserError
from robustprune.core.files import digest
from robustprune.core.job import Job
from robustprune.core.npy import read_header
from robustprune.core.rows import Columns
from robustprune.images.pool import Pool, open_pool
from robustprune.scores.files import Meaning, publish_score
from robustprune.scores.settings import INDEX
from robustprune.scores.specs import ImportedScoreStage
from robustprune.scores.store.layout import GROUP_FILE
from robustprune.scores.store.reading import open_store

DEFINITION = {"scores.imported": 1}

Values = npt.NDArray[np.float32]


def run(job: Job, spec: ImportedScoreStage) -> dict[str, Any]:
    """Publish a store with the one column, a row a sample.

    Returns:
        what ``publish_score`` found.

    Raises:
        UserError: when the file changed since the plan was made, is malformed, or has not one number for each image.
    """
    pool = open_pool(job.upstream("pools", spec.pool))
    path = Path(spec.location)
    found = digest(path / GROUP_FILE if spec.format == "zarr" else path) if path.exists() else "gone"
    if found != spec.digest:
        raise UserError(f"{path} is not as it was when the plan was made; bring it back or plan again")
    if spec.format == "zarr":
        blocks = _of_store(path, spec.column, pool)
    else:
        blocks = iter([{spec.column: READERS[spec.format](path, spec.column, len(pool))}])
    meaning = Meaning(column=spec.column, unit=spec.unit, easy=spec.easy, sign="as its owner says")
    return publish_score(job, spec, _without_nan(blocks, path), meaning, pool, {})


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
    try:
        table = pd.read_csv(path, usecols=[INDEX, column], dtype={INDEX: np.int64, column: np.float64})
    except (OSError, ValueError, OverflowError, EmptyDataError, ParserError) as error:
        raise UserError(f"{path} should have the columns {INDEX} and {column}, of numbers: {error}") from None
    return _by_index(path, table[INDEX].to_numpy(), table[column].to_numpy(), count)


def _of_parquet(path: Path, column: str, count: int) -> Values:
    try:
        table = pq.read_table(path, columns=[INDEX, column])
        if table[INDEX].null_count:
            raise UserError(f"{path}: {table[INDEX].null_count} of {len(table)} rows have no {INDEX}")
        index = table[INDEX].cast(pa.int64()).to_numpy()
        values = table[column].cast(pa.float64()).to_numpy()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{path} should have the columns {INDEX} and {column}, of numbers: {error}") from None
    return _by_index(path, index, values, count)


READERS: dict[str, Callable[[Path, str, int], Values]] = {"csv": _of_csv, "npy": _of_npy, "parquet": _of_parquet}


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
