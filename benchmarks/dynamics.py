"""Dynamic uncertainty of many images over many epochs: time and peak memory of the real stage, on a made-up recording.

    python benchmarks/dynamics.py                      10 million images x 50 epochs; needs 2 GB of disk
    python benchmarks/dynamics.py --rows 1000000

The stage runs in a process of its own, so that its memory is nobody else's. The first images are compared with a plain
float64 computation.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustprune.core.execution import Execution
from robustprune.core.paths import STORE_NAME, dynamics_name
from robustprune.images.pool import IMAGES_FILE, INFO_FILE, LABELS_FILE, PoolInfo
from robustprune.planning.config import DynamicsSettings
from robustprune.scores.dynamics_score import DynamicsScoreStage
from robustprune.scores.store.layout import SHARD_ROWS
from robustprune.scores.store.reader import open_store
from robustprune.scores.store.writer import StoreWriter

POOL, MODEL = "benchmark-train-0000000000", "recorded-benchmark-seed0-0000000000"
DIGEST = "0" * 64
CHECKED = 1000


def confidences(rows: int, epoch: int) -> Iterator[tuple[int, npt.NDArray[np.float16]]]:
    """Random confidences of one epoch, a file of the store at a time."""
    for start in range(0, rows, SHARD_ROWS):
        random = np.random.default_rng((epoch, start))
        yield start, random.random(min(SHARD_ROWS, rows - start), dtype=np.float32).astype(np.float16)


def make_recording(results: Path, rows: int, epochs: int) -> None:
    """A pool (its images a file without content, which no score reads) and what a training recorded of it."""
    pool, model = results / "pools" / POOL, results / "models" / MODEL
    pool.mkdir(parents=True)
    np.lib.format.open_memmap(pool / IMAGES_FILE, mode="w+", dtype=np.uint8, shape=(rows, 1, 4, 4))
    np.save(pool / LABELS_FILE, np.zeros(rows, dtype=np.int16))
    info = PoolInfo(
        dataset="benchmark",
        source="made up",
        classes=10,
        image_shape=(1, 4, 4),
        count=rows,
        class_counts=(rows, *[0] * 9),
        digest=DIGEST,
    )
    (pool / INFO_FILE).write_text(info.model_dump_json())
    writer = StoreWriter(model / dynamics_name(POOL), {"clean_confidence": "float16"}, rows, epochs=epochs)
    for epoch in range(epochs):
        for start, values in confidences(rows, epoch):
            writer.write({"clean_confidence": values}, start=start, epoch=epoch)
    writer.finish({"pool_digest": DIGEST, "recorded_after": list(range(1, epochs + 1))})


def spec_of(name: str) -> DynamicsScoreStage:
    """The score as a plan would have it."""
    metric = DynamicsSettings().named(name)
    return DynamicsScoreStage(score=name, pool=POOL, models=(MODEL,), trajectory="clean", metric=metric)


def run_stage_alone(results: Path, name: str) -> None:
    """In a process of its own: run the stage, and print its seconds and its peak memory in MiB."""
    from robustprune.core.job import Job

    spec = spec_of(name)
    directory = results / "scores" / spec.id
    (directory / "partial").mkdir(parents=True)
    started = time.perf_counter()
    spec.run(Job(directory, Execution(device="cpu"), threads=1, live=False))
    print(f"{time.perf_counter() - started} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}")


def plain_uncertainty(values: npt.NDArray[Any], window: int = 10) -> npt.NDArray[np.float64]:
    """DU of (epochs, images) in float64, window by window."""
    ends = range(window, len(values))
    windows = [np.std(values[end - window : end].astype(np.float64), axis=0, ddof=1) for end in ends]
    return np.asarray(np.mean(windows, axis=0))


def main() -> None:
    """Make the recording, score it, check, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="images (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=50, help="recorded epochs (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to put it all for the while (default: the system's own)")
    parser.add_argument("--alone", nargs=2, metavar=("RESULTS", "SCORE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        run_stage_alone(Path(options.alone[0]), options.alone[1])
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        results = Path(folder) / "results"
        started = time.perf_counter()
        make_recording(results, options.rows, options.epochs)
        recording = results / "models" / MODEL / dynamics_name(POOL)
        size = sum(file.stat().st_size for file in recording.rglob("*") if file.is_file())
        print(f"{options.rows:,} images x {options.epochs} epochs, float16: {size / 1e9:.2f} GB on disk,", end=" ")
        print(f"written in {time.perf_counter() - started:.1f} s")
        names = ("uncertainty", "frequency")
        for name in names:
            command = [sys.executable, __file__, "--alone", str(results), name]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, peak = map(float, printed.split())
            print(f"{name:<12} {seconds:6.1f} s, peak memory {peak:,.0f} MiB")
        first = open_store(recording).read("clean_confidence", 0, CHECKED)
        score = open_store(results / "scores" / spec_of("uncertainty").id / STORE_NAME).read("uncertainty", 0, CHECKED)
        worst = np.abs(score - plain_uncertainty(first)).max()
        print(f"uncertainty of the first {CHECKED:,} images against float64: at most {worst:.1e} apart")


if __name__ == "__main__":
    main()
