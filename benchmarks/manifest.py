"""How fast a PUMA manifest is made: ``python benchmarks/manifest.py [images ...]``, 10 and 50 million by default.

Each side runs in a process of its own, from the margins on disk to manifest.parquet: our stage with Eq. 2, and the
obvious way in pandas (a frame, sort_values, head, clip, back into order, to_parquet).
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from robustprune.core.execution import Execution
from robustprune.core.job import Job
from robustprune.core.paths import STORE_NAME
from robustprune.images.pool import IMAGES_FILE, INFO_FILE, LABELS_FILE, PoolInfo
from robustprune.pruning.prune import ManifestStage
from robustprune.pruning.radius import RadiusSettings
from robustprune.pruning.settings import DropShare
from robustprune.scores.store.reader import open_store
from robustprune.scores.store.writer import write_store

POOLS = ("noise-train-0000000000", "noise-synthetic-1111111111")
SCORES = ("margin-train-2222222222", "margin-synthetic-3333333333")
SHARE, EPSILON = 0.2, 8 / 255
CLASSES = 10


def prepare(folder: Path, images: int) -> None:
    """Two pools of empty images, and normal margins of each: a twentieth is real."""
    rng = np.random.default_rng(0)
    for pool, score, count in zip(POOLS, SCORES, (images // 20, images - images // 20), strict=True):
        place = folder / "pools" / pool
        place.mkdir(parents=True)
        np.lib.format.open_memmap(place / IMAGES_FILE, mode="w+", dtype=np.uint8, shape=(count, 1, 4, 4))
        labels = rng.integers(CLASSES, size=count).astype(np.int16)
        np.save(place / LABELS_FILE, labels)
        info = PoolInfo(
            dataset="noise",
            source="none",
            classes=CLASSES,
            image_shape=(1, 4, 4),
            count=count,
            class_counts=tuple(np.bincount(labels).tolist()),
            digest=pool[-1] * 64,
        )
        (place / INFO_FILE).write_text(info.model_dump_json())
        margins = rng.normal(0.06, 0.04, count).astype(np.float32)
        meaning = {"column": "margin", "unit": "none", "easy": "high", "sign": "none"}
        (folder / "scores" / score).mkdir(parents=True)
        attributes = {"pool_digest": pool[-1] * 64, "score": meaning}
        write_store(folder / "scores" / score / STORE_NAME, [{"margin": margins}], count, attributes)


def ours(folder: Path) -> int:
    """The stage."""
    job = Job(folder / "manifests" / "puma", Execution(device="cpu"), threads=2, live=False)
    job.partial.mkdir(parents=True)
    spec = ManifestStage(
        pools=POOLS,
        scores=SCORES,
        margins=SCORES,
        difficulties=(),
        strategy="puma",
        drop=DropShare(shares=(SHARE,)),
        per="all",
        radius=RadiusSettings(rule="margin", epsilon=Fraction(8, 255), gap=Fraction(0)),
        validation_images=0,
        seed=0,
    )
    return int(spec.run(job)["kept"])


def frame_of(folder: Path) -> pd.DataFrame:
    """Pool, index, label and margin of every image."""
    parts = []
    for pool, score in zip(POOLS, SCORES, strict=True):
        margins = open_store(folder / "scores" / score / STORE_NAME).read("margin")
        labels = np.load(folder / "pools" / pool / LABELS_FILE)
        columns = {"pool": pool, "index": np.arange(len(labels)), "label": labels, "margin": margins}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def obvious(folder: Path) -> int:
    """Pandas."""
    frame = frame_of(folder)
    kept = frame.sort_values("margin").head(len(frame) - round(SHARE * len(frame))).copy()
    kept["epsilon"] = kept["margin"].clip(-EPSILON, EPSILON)
    kept.sort_index().to_parquet(folder / "obvious.parquet", index=False)
    return len(kept)


SIDES: dict[str, Callable[[Path], int]] = {"ours": ours, "pandas": obvious}


class Cost(NamedTuple):
    """What a process cost, imports included.

    Attributes:
        wall: seconds from its start to its end.
        processor: seconds of processor time, of all its threads.
        peak_gib: peak memory.
        kept: rows in its manifest.
    """

    wall: float
    processor: float
    peak_gib: float
    kept: int

    def __str__(self) -> str:
        return f"{self.wall:6.1f} s, processor {self.processor:5.1f} s, peak {self.peak_gib:4.2f} GiB"


def in_process(side: str, folder: Path) -> Cost:
    """One side in a process of its own."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, side, str(folder)], check=True, stdout=subprocess.PIPE, text=True)
    wall = time.perf_counter() - began
    return Cost(wall, *json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """One side in this process, or all of them in turn."""
    if len(sys.argv) > 2 and sys.argv[1] in SIDES:
        kept = SIDES[sys.argv[1]](Path(sys.argv[2]))
        print(json.dumps([time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, kept]))
        return
    for images in [int(argument) for argument in sys.argv[1:]] or [10_000_000, 50_000_000]:
        with tempfile.TemporaryDirectory() as temporary:
            prepare(Path(temporary), images)
            costs = {side: in_process(side, Path(temporary)) for side in SIDES}
        print(f"{images:,} margins, {costs['ours'].kept:,} rows kept")
        for side, cost in costs.items():
            wall, processor = cost.wall / costs["ours"].wall, cost.processor / costs["ours"].processor
            print(f"  {side:7}{cost}; {wall:4.1f} and {processor:4.1f} times ours", flush=True)


if __name__ == "__main__":
    main()
