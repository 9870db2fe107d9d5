"""How fast an npz of a million 32 x 32 images becomes a pool: ``python benchmarks/ingest.py [folder]``.

Takes 10 GB of disk for a while. The copy is ``shutil.copyfile`` and fsync of the same npz; ingest is ``robustprune
run`` of the pool's stage in a process of its own, fsync included: every byte of the source is compared with its planned
BLAKE3 digest and the npz's CRC-32, channels are moved to the front, the pool gets a digest, too, each image an XXH3.
The two take turns. Seconds of ingest are those of the job's record; the process, with Python's start, is stated beside
them.
"""

import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustprune.core.stage_file import write_spec
from robustprune.images.ingested import IngestedPoolStage
from robustprune.images.pool import IMAGES_FILE, open_pool
from robustprune.images.sources import synthetic_source
from robustprune.images.writing import STATE_FILE

IMAGES = 1_000_000
SHAPE = (32, 32, 3)
REPEATS = 3
BATCH = 512


@dataclass(frozen=True)
class Run:
    """One ingest.

    Attributes:
        seconds: of the job, as its record says.
        wall_seconds: of the process.
        processor_seconds: of the process, all its threads.
        memory_mb: peak resident memory.
    """

    seconds: float
    wall_seconds: float
    processor_seconds: float
    memory_mb: float


def make_npz(path: Path, images: int) -> None:
    """Random pixels, sorted by class as the published sets are, written part by part."""
    rng, part = np.random.default_rng(0), 10_000
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("image.npy", "w", force_zip64=True) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (images, *SHAPE)}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, images, part):
                file.write(rng.integers(0, 256, (min(part, images - start), *SHAPE), dtype=np.uint8).data)
        with archive.open("label.npy", "w") as file:
            np.lib.format.write_array(file, np.arange(images) * 10 // images)


def plan_pool(npz: Path, results: Path) -> Path:
    """The directory of the stage that ingests ``npz``, with its spec."""
    spec = IngestedPoolStage(
        dataset="bench", split="synthetic", classes=10, image_shape=(3, 32, 32), source=synthetic_source(f"npz:{npz}")
    )
    write_spec(results / "pools" / spec.id / "spec.json", spec)
    return results / "pools" / spec.id


def start(directory: Path) -> "subprocess.Popen[bytes]":
    """``robustprune run`` of a stage."""
    command = [sys.executable, "-m", "robustprune", "run", str(directory / "spec.json"), "--threads", "2"]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def ingest(directory: Path) -> Run:
    """Run the stage to its end."""
    started, used = time.perf_counter(), processor_seconds(resource.RUSAGE_CHILDREN)
    if start(directory).wait() != 0:
        raise SystemExit(f"ingest failed; see robustprune run {directory}/spec.json")
    wall = time.perf_counter() - started
    record = json.loads((directory / "record.json").read_text())
    used = processor_seconds(resource.RUSAGE_CHILDREN) - used
    return Run(record["seconds"], wall, used, record["peak_memory_mb"])


def processor_seconds(who: int) -> float:
    """User's and system's time so far."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def forget(directory: Path) -> None:
    """Remove what a run made, and let the disk finish."""
    for path in directory.iterdir():
        if path.name != "spec.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    os.sync()


def copy(source: Path, target: Path) -> float:
    """Seconds of a plain copy that is on the disk at the end."""
    started = time.perf_counter()
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    target.unlink()
    os.sync()
    return seconds


def against_copy(npz: Path, directory: Path) -> float:
    """Print the comparison; returns the median seconds of ingest. The pool is left in place."""
    copies, runs = [], []
    for _ in range(REPEATS):
        forget(directory)
        copies.append(copy(npz, npz.with_name("copy.npz")))
        runs.append(ingest(directory))
    size, images = npz.stat().st_size, len(open_pool(directory))
    plain, seconds = statistics.median(copies), statistics.median(run.seconds for run in runs)
    print(
        f"{images:9,} images, {size / 1e9:.2f} GB: copy {plain:6.2f} s ({size / plain / 1e6:5.0f} MB/s), "
        f"ingest {seconds:6.2f} s ({size / seconds / 1e6:5.0f} MB/s), {plain / seconds:4.0%} of the copy's speed, "
        f"process {statistics.median(run.wall_seconds for run in runs):6.2f} s and "
        f"{statistics.median(run.processor_seconds for run in runs):.2f} s of processors, "
        f"peak memory {max(run.memory_mb for run in runs):.0f} MB",
        flush=True,
    )
    return seconds


def killed(directory: Path, seconds: float) -> None:
    """Print what ``kill -9`` in the middle costs."""
    forget(directory)
    process, state = start(directory), directory / "partial" / STATE_FILE
    rows, count = 0, IMAGES
    while process.poll() is None and rows < count / 2:
        time.sleep(0.01)
        rows = json.loads(state.read_text())["rows"] if state.is_file() else 0
    process.kill()
    process.wait()
    rows = json.loads(state.read_text())["rows"]
    again = ingest(directory)
    share = again.seconds / seconds
    print(f"killed with {rows:,} images saved: the second run took {again.seconds:.2f} s, {share:.0%} of a whole one")


def median_ms(action: Callable[[], object], repeats: int = 100) -> float:
    """Median milliseconds, after one round that warms up."""
    action()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def reading(directory: Path) -> None:
    """Print the time to open the pool, and to read a random batch of it."""
    pool, rng = open_pool(directory), np.random.default_rng(0)
    np.load(directory / IMAGES_FILE, mmap_mode="r").max()  # into the page cache
    opening = median_ms(lambda: open_pool(directory))
    batch = median_ms(lambda: pool.images[rng.integers(0, len(pool), BATCH)])
    print(f"opening {len(pool):,} images: {opening:.2f} ms; a random batch of {BATCH}: {batch:.2f} ms")


def main(folder: Path) -> None:
    """Print all comparisons."""
    print(f"{os.cpu_count()} CPU cores; Python {platform.python_version()}, numpy {np.__version__}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    seconds = []
    for images in (IMAGES // 10, IMAGES):
        npz = folder / f"{images}.npz"
        make_npz(npz, images)
        directory = plan_pool(npz, folder / "results" / "bench")
        seconds.append(against_copy(npz, directory))
    print(f"ten times the images take {seconds[1] / seconds[0]:.1f} times the seconds")
    reading(directory)
    killed(directory, seconds[1])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
