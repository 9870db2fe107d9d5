"""Computing something for each row of a pool so that a killed job loses at most a minute's rows.

Rows are computed in batches with fixed borders; finished batches are put into block files in ``partial/``, each written
whole. A resumed job starts behind the last block, at a border an unbroken one has too, so both end in the same bits.
"""

import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustprune.files import replacing

if TYPE_CHECKING:  # a job imports torch, which readers of blocks and stores do not need
    from robustprune.job import Job

Columns = dict[str, npt.NDArray[Any]]


def compute_rows(
    job: "Job",
    count: int,
    compute: Callable[[int, int], Columns],
    *,
    what: str,
    unit: str = "images",
    batch_size: int | None = None,
    name: str = "blocks",
) -> Iterator[Columns]:
    """Compute columns for rows 0 ... ``count`` - 1 and yield them block by block, in order.

    Args:
        job: the running stage; its batch size, checkpoints and ``partial/`` are used.
        count: number of rows.
        compute: ``compute(start, stop)`` returns arrays of length ``stop - start``.
        what: what is computed, for the progress report.
        unit: plural name of a row.
        batch_size: rows at once, where a batch decides numbers; else the execution's.
        name: folder of the block files in ``partial/``; a job with several passes gives each its own.
    """
    folder = job.partial / name
    folder.mkdir(exist_ok=True)
    batch_size = batch_size or job.execution.batch_size
    start = _done_rows(folder)
    pending: list[Columns] = []
    first = start

    def save() -> None:
        nonlocal first
        if pending:
            _write_block(folder, first, start, _concatenate(pending))
            pending.clear()
            first = start

    with job.progress(what, total=count, unit=unit, done=start) as progress, job.checkpoints:
        while start < count:
            stop = min(start + batch_size, count)
            pending.append(compute(start, stop))
            progress.advance(stop - start)
            start = stop
            job.checkpoints.tick(save)
    save()
    return (_read_block(path) for path in _block_paths(folder))


def collect(blocks: Iterator[Columns]) -> Columns:
    """All rows of all blocks."""
    return _concatenate(list(blocks))


def _concatenate(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _block_paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("rows-*.npz"))


def _done_rows(folder: Path) -> int:
    paths = _block_paths(folder)
    match = re.fullmatch(r"rows-\d+-(\d+)", paths[-1].stem) if paths else None
    return int(match[1]) if match else 0


def _write_block(folder: Path, start: int, stop: int, columns: Columns) -> None:
    with (
        replacing(folder / f"rows-{start:012d}-{stop:012d}.npz") as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
    ):
        for name, values in columns.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(values), allow_pickle=False)


def _read_block(path: Path) -> Columns:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
