"""What views and encoded pools cost: ``python benchmarks/pools.py [views|encoded] [images]``.

``views``: a subset of a fifth of a pool of 32 x 32 images, made, opened, and read in random batches beside its parent.
``encoded``: JPEGs of 500 x 375 pixels made into a pool, and read at 224 x 224 one at a time, in batches, and by
pyarrow's own means, which knows no smaller unit than a row group.
"""

import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from robustprune.core.execution import Execution
from robustprune.core.job import Job
from robustprune.images.encoded import EncodedImages, decoding_threads
from robustprune.images.encoding import fill_encoded_pool, publish_encoded_pool
from robustprune.images.formats.stream import EncodedImage
from robustprune.images.pool import DIGESTS_FILE, IMAGES_FILE, INFO_FILE, LABELS_FILE, PoolInfo, open_pool
from robustprune.images.subset import SubsetPoolStage

PARENT, ENCODED = "noise-synthetic-0000000000", "photos-train-1111111111"
SMALL, LARGE = (3, 32, 32), (3, 224, 224)
CLASSES = 10
ROUNDS = 20


def job_of(folder: Path, stage_id: str) -> Job:
    """A job of the stage ``pools`` below a folder."""
    directory = folder / "pools" / stage_id
    (directory / "partial").mkdir(parents=True)
    return Job(directory, Execution(device="cpu"), threads=1, live=False)


def milliseconds(do: Callable[[], object], rounds: int | None = None) -> float:
    """Median of some rounds, after one that does not count."""
    do()
    times = []
    for _ in range(rounds or ROUNDS):
        started = time.perf_counter()
        do()
        times.append(1000 * (time.perf_counter() - started))
    return float(np.median(times))


def write_parent(folder: Path, count: int) -> None:
    """A pool of black images, of which the disk has only the parts that are read."""
    directory = job_of(folder, PARENT).directory
    np.lib.format.open_memmap(directory / IMAGES_FILE, "w+", np.uint8, (count, *SMALL))
    np.save(directory / LABELS_FILE, (np.arange(count) % CLASSES).astype(np.int16))
    np.save(directory / DIGESTS_FILE, np.arange(count, dtype=np.uint64))
    info = PoolInfo(
        dataset="noise",
        source="a benchmark",
        classes=CLASSES,
        image_shape=SMALL,
        count=count,
        class_counts=tuple(np.bincount(np.arange(count) % CLASSES).tolist()),
        digest="0" * 64,
    )
    (directory / INFO_FILE).write_text(info.model_dump_json())


def views(folder: Path, count: int) -> None:
    """Print what a subset costs."""
    write_parent(folder, count)
    spec = SubsetPoolStage(
        dataset="noise",
        pool=PARENT,
        classes=CLASSES,
        image_shape=SMALL,
        count=count // 5,
        balanced=True,
        apart_from=(),
        seed=0,
    )
    job = job_of(folder, spec.id)
    started = time.perf_counter()
    spec.run(job)
    made = time.perf_counter() - started
    parent, view = open_pool(folder / "pools" / PARENT), open_pool(job.directory)
    rows = np.random.default_rng(0).integers(0, len(view), 512)
    beside = np.load(job.directory / "rows.npy")[rows]
    print(
        f"subset of {len(view):,} of {count:,} images: made in {made:.2f} s, "
        f"{sum(file.stat().st_size for file in job.directory.iterdir() if file.is_file()) / 1e6:.1f} MB, "
        f"opened in {milliseconds(lambda: open_pool(job.directory)):.1f} ms; "
        f"batch of 512: {milliseconds(lambda: view.images[rows]):.2f} ms, "
        f"the same rows of the parent: {milliseconds(lambda: parent.images[beside]):.2f} ms"
    )


def photo(seed: int) -> bytes:
    """A JPEG of 500 x 375 pixels with about as many bytes as a photograph."""
    rng = np.random.default_rng(seed)
    blurred = Image.fromarray(rng.integers(0, 256, (94, 125, 3), dtype=np.uint8)).resize((500, 375))
    file = io.BytesIO()
    blurred.save(file, "JPEG", quality=90)
    return file.getvalue()


def encoded(folder: Path, count: int) -> None:
    """Print what a pool of encoded images costs."""
    photos = [photo(seed) for seed in range(64)]

    def source(first: int) -> Iterator[EncodedImage]:
        for row in range(first, count):
            yield EncodedImage(photos[row % 64], row % CLASSES, f"{row}.jpg")

    job = job_of(folder, ENCODED)
    started = time.perf_counter()
    fill_encoded_pool(
        job, source, count=count, image_shape=LARGE, classes=CLASSES, dataset="photos", source="a benchmark"
    )
    publish_encoded_pool(job)
    made = time.perf_counter() - started
    images = open_pool(job.directory).images
    assert isinstance(images, EncodedImages)
    rows = np.random.default_rng(0).integers(0, count, 64)
    print(
        f"{count:,} JPEGs of {np.mean([len(one) for one in photos]) / 1000:.0f} kB: brought in at {count / made:.0f} "
        f"images/s, opened in {milliseconds(lambda: open_pool(job.directory)):.1f} ms; batch of 64: "
        f"{milliseconds(lambda: images[rows]):.0f} ms on {decoding_threads()} threads, "
        f"one by one {milliseconds(lambda: [images[int(row)] for row in rows], 5):.0f} ms; "
        f"bytes of an image: {milliseconds(lambda: images.encoded(int(rows[0]))):.3f} ms by the index, "
        f"{milliseconds(lambda: by_row_group(job.directory, int(rows[0]))):.1f} ms by its row group"
    )


def by_row_group(directory: Path, row: int) -> bytes:
    """An image's bytes as pyarrow gives them."""
    file = pq.ParquetFile(directory / "images.parquet" / "00000.parquet")
    group, place = divmod(row % 2**13, file.metadata.row_group(0).num_rows)
    column = file.read_row_group(group, columns=["image.bytes"])["image"].combine_chunks()
    content: bytes = column.field("bytes")[place].as_py()
    return content


def main() -> None:
    """Run what is named, or both."""
    cases = {"views": (views, 1_000_000), "encoded": (encoded, 8192)}
    for name in sys.argv[1:2] or cases:
        run, count = cases[name]
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder), int(sys.argv[2]) if len(sys.argv) > 2 else count)


if __name__ == "__main__":
    main()
