"""How fast a PUMA manifest is made: ``python benchmarks/manifest.py [images ...]``, 10 and 50 million by default.

Each side runs in a process of its own, from the margins on disk to manifest.parquet: our stage with Eq. 2, and the
obvious way in pandas (a frame, sort_values, head, clip, back into order, to_parquet). The choice alone is timed, too.
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

import numpy as np
import pandas as pd

from robustprune.execution import Execution
from robustprune.job import Job
from robustprune.pools.format import IMAGES_FILE, INFO_FILE, LABELS_FILE, PoolInfo
from robustprune.pruning import stage
from robustprune.pruning.candidates import Candidates
from robustprune.pruning.strategies import choose
from robustprune.scores.files import STORE_NAME
from robustprune.settings import DropShare, RadiusSettings
from robustprune.specs import ManifestSpec
from robustprune.store import open_store, write_store

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
    spec = ManifestSpec(
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
    return int(stage.run(job, spec)["kept"])


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
    kept = pandas_choice(frame_of(folder)).copy()
    kept["epsilon"] = kept["margin"].clip(-EPSILON, EPSILON)
    kept.sort_index().to_parquet(folder / "obvious.parquet", index=False)
    return len(kept)


def pandas_choice(frame: pd.DataFrame) -> pd.DataFrame:
    """The images of lowest margin."""
    return frame.sort_values("margin").head(len(frame) - round(SHARE * len(frame)))


def our_choice(frame: pd.DataFrame) -> int:
    """The same by ``choose``."""
    counts = tuple(int((frame["pool"] == pool).sum()) for pool in POOLS)
    images = Candidates(POOLS, (0, 0), counts, frame["label"].to_numpy(), frame["margin"].to_numpy())
    began = time.process_time()
    choose(images, strategy="puma", drop=DropShare(shares=(SHARE,)), per="all", seed=0, dropped={})
    return round(1000 * (time.process_time() - began))


def choices(folder: Path) -> dict[str, int]:
    """Milliseconds of processor time of either choice, from arrays in memory."""
    frame = frame_of(folder)
    found = {"ours": our_choice(frame)}
    began = time.process_time()
    pandas_choice(frame)
    return {**found, "obvious": round(1000 * (time.process_time() - began))}


SIDES: dict[str, Callable[[Path], object]] = {"ours": ours, "obvious": obvious, "choices": choices}


def in_process(side: str, folder: Path) -> dict[str, object]:
    """What one side printed: seconds, peak memory, and its own result."""
    command = [sys.executable, __file__, side, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """One side in this process, or all of them."""
    if len(sys.argv) > 2 and sys.argv[1] in SIDES:
        began = time.perf_counter()
        result = SIDES[sys.argv[1]](Path(sys.argv[2]))
        seconds = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_SELF)
        found = {"seconds": seconds, "processor_seconds": time.process_time(), "peak_gib": used.ru_maxrss / 2**20}
        print(json.dumps({"result": result, **{name: round(value, 2) for name, value in found.items()}}))
        return
    for images in [int(argument) for argument in sys.argv[1:]] or [10_000_000, 50_000_000]:
        with tempfile.TemporaryDirectory() as temporary:
            prepare(Path(temporary), images)
            for side in SIDES:
                print(f"{images:,} images, {side}: {in_process(side, Path(temporary))}", flush=True)


if __name__ == "__main__":
    main()
