"""Computing something for each row of a pool so that a killed job loses a minute or a batch; jobs may share rows.

Rows are computed in batches whose borders are multiples of the batch size; finished batches are put into block files in
``partial/``, each written whole. A resumed job computes the rows that no block has, in the batches an unbroken one
would, and so does a job that is given some of the rows only: all end in the same bits.
"""

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from robustprune.core.errors import UserError
from robustprune.core.files import replacing

if TYPE_CHECKING:  # a job imports torch, which readers of blocks and stores do not need
    from robustprune.core.job import Job

Columns = dict[str, npt.NDArray[Any]]

BLOCK_BYTES = 2**26  # a block is written when it reaches this size, however recent the last one is

RowPass = Callable[..., Iterator[Columns]]
"""``compute_rows`` with all but ``rows`` filled in (``functools.partial``): what several jobs of a stage can share."""


def compute_rows(
    job: "Job",
    count: int,
    compute: Callable[[int, int], Columns],
    *,
    what: str,
    unit: str = "images",
    batch_size: int | None = None,
    name: str = "blocks",
    rows: range | None = None,
) -> Iterator[Columns]:
    """Compute columns for each row and yield them block by block, in order.

    Args:
        job: the running stage; its batch size, checkpoints and ``partial/`` are used.
        count: number of rows of the stage.
        compute: ``compute(start, stop)`` returns arrays of length ``stop - start``.
        what: what is computed, for the progress report.
        unit: plural name of a row.
        batch_size: rows at once, where a batch decides numbers; else the execution's.
        name: folder of the block files in ``partial/``; a job with several passes gives each its own.
        rows: the rows to compute and yield; all by default.

    Raises:
        UserError: for rows that do not begin and end at borders of batches, or a damaged block.
        Interrupted: after a signal, with finished rows saved.
    """
    folder = job.partial / name
    folder.mkdir(exist_ok=True)
    batch_size = batch_size or job.execution.batch_size
    rows = range(count) if rows is None else _checked(rows, count, batch_size)
    gaps = _gaps(_blocks(folder), rows)
    done = len(rows) - sum(len(gap) for gap in gaps)
    with job.progress(what, total=len(rows), unit=unit, done=done) as progress, job.checkpoints:
        for gap in gaps:
            pending = _Pending(folder, gap.start)
            for start, stop in ranges(gap.start, gap.stop, batch_size):
                pending.append(compute(start, stop))
                progress.advance(stop - start)
                if pending.bytes >= BLOCK_BYTES:
                    pending.save()
                job.checkpoints.tick(pending.save)
            pending.save()
    return _read(folder, rows)


def collect(blocks: Iterable[Columns]) -> Columns:
    """Return all rows of all blocks."""
    parts = list(blocks)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def ranges(start: int, stop: int, length: int) -> Iterator[tuple[int, int]]:
    """``start`` ... ``stop`` cut at the multiples of ``length``."""
    while start < stop:
        end = min(stop, start - start % length + length)
        yield start, end
        start = end


class _Block(NamedTuple):
    start: int
    stop: int
    path: Path


class _Pending:
    """Finished batches that are not on the disk yet, the first of which begins at row ``start``."""

    def __init__(self, folder: Path, start: int) -> None:
        self.folder, self.start, self.bytes = folder, start, 0
        self._batches: list[Columns] = []

    def append(self, columns: Columns) -> None:
        self._batches.append(columns)
        self.bytes += sum(values.nbytes for values in columns.values())

    def save(self) -> None:
        if not self._batches:
            return
        columns = collect(self._batches)
        stop = self.start + len(next(iter(columns.values())))
        _write_block(self.folder / f"rows-{self.start:012d}-{stop:012d}.npz", columns)
        self._batches.clear()
        self.start, self.bytes = stop, 0


def _checked(rows: range, count: int, batch_size: int) -> range:
    whole = rows.start % batch_size == 0 and (rows.stop % batch_size == 0 or rows.stop == count)
    if not (0 <= rows.start < rows.stop <= count and whole):
        raise UserError(
            f"--rows {rows.start}:{rows.stop}: should begin and end at multiples of {batch_size}, the rows computed at "
            f"once, or end at the last row, {count}"
        )
    return rows


def _blocks(folder: Path) -> list[_Block]:
    """Return the blocks there are, by first row."""
    matches = ((path, re.fullmatch(r"rows-(\d+)-(\d+)", path.stem)) for path in folder.glob("rows-*.npz"))
    return sorted(_Block(int(match[1]), int(match[2]), path) for path, match in matches if match)


def _gaps(blocks: list[_Block], rows: range) -> list[range]:
    """The rows that no block has."""
    gaps, start = [], rows.start
    for block in blocks:
        if start < block.start:
            gaps.append(range(start, min(block.start, rows.stop)))
        start = max(start, block.stop)
        if start >= rows.stop:
            break
    return [gap for gap in [*gaps, range(start, rows.stop)] if gap]


def _read(folder: Path, rows: range) -> Iterator[Columns]:
    """The blocks' rows in order, each once: two jobs with parts of different size may have computed some twice."""
    start = rows.start
    for block in _blocks(folder):
        if block.stop <= start or block.start >= rows.stop:
            continue
        first, last = start - block.start, min(block.stop, rows.stop) - block.start
        yield {name: values[first:last] for name, values in _read_block(block.path).items()}
        start = block.stop


def _write_block(path: Path, columns: Columns) -> None:
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, values in columns.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(values), allow_pickle=False)


def _read_block(path: Path) -> Columns:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}); delete it, and the same command computes it again") from None
