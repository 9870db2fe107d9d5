"""How fast a column of 10 million scores is written and read: ``python benchmarks/store.py [folder]``.

Written: ``write_store``, with a CRC-32C for each chunk and a seal for each file, against ``numpy.save``. Both sides
make a file that was not there and bring it to the same disk (fsync) before the clock stops. Read: all of the column,
every checksum checked, against pyarrow's ``read_table`` of the same column in Parquet, to a table and to a NumPy array.
Medians of 5, the sides in turn; files are in the page cache when they are read.
"""

import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from robustprune.scores.store.reader import open_store
from robustprune.scores.store.writer import write_store

ROWS = 10_000_000
REPEATS = 5


def save_with_numpy(path: Path, scores: np.ndarray) -> None:
    """What the store is measured against: the bare numbers, on the disk."""
    with path.open("wb") as file:
        np.save(file, scores)
        file.flush()
        os.fsync(file.fileno())


def medians(sides: dict[str, Callable[[], object]], clear: Callable[[], object] = lambda: None) -> dict[str, float]:
    """Median seconds of each side, taken in turn; ``clear`` runs before each, off the clock."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(REPEATS):
        for name, run in sides.items():
            clear()
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def report(seconds: dict[str, float], reference: str) -> None:
    """A line a side: milliseconds, and how many times those of the reference."""
    for name, value in seconds.items():
        print(f"{name:<46}{1000 * value:7.0f} ms{value / seconds[reference]:7.2f} x")


def main(folder: Path) -> None:
    """Print both comparisons."""
    scores = np.random.default_rng(0).normal(size=ROWS).astype(np.float32)
    store, plain, table = folder / "scores.zarr", folder / "scores.npy", folder / "scores.parquet"

    def clear() -> None:
        shutil.rmtree(store, ignore_errors=True)
        plain.unlink(missing_ok=True)
        os.sync()  # nothing of an earlier round is left to write

    print(
        f"{ROWS:,} float32, medians of {REPEATS}; {os.cpu_count()} CPU cores; Python {platform.python_version()}, "
        f"numpy {np.__version__}, zarr {zarr.__version__}, pyarrow {pa.__version__}"
    )
    numpy_side, store_side = "numpy.save, fsync", "write_store, with checksums, fsync"
    writing: dict[str, Callable[[], object]] = {
        numpy_side: lambda: save_with_numpy(plain, scores),
        store_side: lambda: write_store(store, [{"margin": scores}], ROWS, {}),
    }
    report(medians(writing, clear), numpy_side)

    write_store(store, [{"margin": scores}], ROWS, {})
    pq.write_table(pa.table({"margin": scores}), table)
    assert np.array_equal(open_store(store).read("margin"), scores)
    parquet_side = "pyarrow read_table(columns=['margin'])"
    reading: dict[str, Callable[[], object]] = {
        parquet_side: lambda: pq.read_table(table, columns=["margin"]),
        "the same, to_numpy": lambda: pq.read_table(table, columns=["margin"])["margin"].to_numpy(),
        "open_store(...).read('margin'), to NumPy": lambda: open_store(store).read("margin"),
    }
    report(medians(reading), parquet_side)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
