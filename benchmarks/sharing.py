"""How fast scores are shared: ``python benchmarks/sharing.py [folder]``.

Publishing and pulling a store of 10 million rows (margin, prediction, converged, steps) to and from a folder, every
checksum checked, against ``cp -r``; all bring what they wrote to the disk (``sync``) before the clock stops. Looking up
the scores of the digits' tables in three shared folders of 1,000 stores each, and on three web servers on this machine.
Medians of 5, the sides in turn.
"""

import functools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from robustprune.core.paths import STORE_NAME
from robustprune.core.record import Record
from robustprune.core.rows import Columns
from robustprune.experiments.papers import load_experiments
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.scores.distribution import by_class, describe_scores
from robustprune.scores.margin import MarginStage
from robustprune.scores.score import Meaning
from robustprune.scores.store.writer import write_store
from robustprune.sharing.lookup import with_pulls
from robustprune.sharing.places import INDEX_FILE, STORES, Folder, entry_path
from robustprune.sharing.publish import publish_stage
from robustprune.sharing.pull import look_at, pull_store

ROWS, REPEATS, STORES_EACH = 10_000_000, 5, 1_000


def main(folder: Path) -> None:
    """Print a line for each side."""
    print(f"{ROWS:,} rows, medians of {REPEATS}; {os.cpu_count()} CPU cores; Python {platform.python_version()}")
    score = a_score(folder)
    size = sum(file.stat().st_size for file in (score / STORE_NAME).rglob("*") if file.is_file())
    times = measure({side: functools.partial(do, score, folder) for side, do in SIDES.items()})
    for side, seconds in times.items():
        ratio = times["cp -r"] / seconds
        print(f"{side:<34}{1e3 * seconds:8.0f} ms {size / seconds / 1e6:8.0f} MB/s {ratio:6.2f} of cp's rate")
    plans(folder)


def measure(sides: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median seconds of each side."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(REPEATS):
        for side, run in sides.items():
            seconds[side].append(run())
    return {side: statistics.median(values) for side, values in seconds.items()}


def a_score(folder: Path) -> Path:
    """A complete score stage of random margins of a pool that is not here; returns its directory."""
    spec = MarginStage.model_validate(
        {
            "pool": "cifar10-generated-0123456789",
            "model": "trades-resnet18-seed0-0123456789",
            "norm": "Linf",
            "settings": {"method": "deepfool"},
        }
    )
    directory = folder / "results" / "cifar10" / "scores" / spec.id
    source = np.random.default_rng(0)
    columns: Columns = {
        "margin": source.normal(0, 0.05, ROWS).astype(np.float32),
        "prediction": source.integers(0, 10, ROWS).astype(np.int16),
        "converged": source.random(ROWS) < 0.999,
        "steps": source.integers(1, 50, ROWS).astype(np.int16),
    }
    meaning = Meaning("margin", "Linf distance, pixel range [0, 1]", "high", "a large margin is an easy image")
    attributes = {"spec": spec.without_locations(), "score": vars(meaning), "pool_digest": "a" * 64}
    write_store(directory / STORE_NAME, [columns], ROWS, attributes)
    facts = describe_scores(
        lambda: [columns["margin"]], {"by_class": by_class(source.integers(0, 10, ROWS).astype(np.int16), 10)}
    )
    Record(
        id=spec.id,
        finished="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        peak_memory_mb=1.0,
        peak_gpu_memory_mb=0.0,
        device="cpu",
        host_platform="",
        versions={},
        digests={},
        facts={"source": "random numbers", **facts},
    ).write(directory)
    content = {"id": spec.id, "definitions": spec.definitions, "spec": spec.model_dump(mode="json")}
    (directory / "spec.json").write_text(json.dumps(content))
    return directory


def synced(action: Callable[[], object]) -> float:
    """Seconds until what was written is on the disk."""
    os.sync()
    began = time.perf_counter()
    action()
    os.sync()
    return time.perf_counter() - began


def copy(score: Path, folder: Path) -> float:
    """Seconds that ``cp -r`` takes."""
    shutil.rmtree(folder / "copy", ignore_errors=True)
    return synced(lambda: subprocess.run(["cp", "-r", score / STORE_NAME, folder / "copy"], check=True))


def publish(score: Path, folder: Path) -> float:
    """Seconds that publishing to a folder takes."""
    shutil.rmtree(folder / "shared", ignore_errors=True)
    return synced(lambda: publish_stage(score, Folder(folder / "shared"), advance=str))


def pull(score: Path, folder: Path) -> float:
    """Seconds that pulling from there takes, every checksum checked."""
    shutil.rmtree(folder / "pulled", ignore_errors=True)
    place = Folder(folder / "shared")
    return synced(lambda: pull_store(place, look_at(place, score.name), folder / "pulled", advance=str))


SIDES = {"cp -r": copy, "publish": publish, "pull": pull}


def plans(folder: Path) -> None:
    """Print how long planning takes with shared stores and without."""
    ids = [f"margin-linf-cifar10-generated-{number:010x}" for number in range(STORES_EACH)]
    index = json.dumps({"schema_version": 1, "ids": ids}).encode()
    places = [folder / f"place{number}" for number in range(3)]
    for place in places:
        (place / STORES).mkdir(parents=True)
        (place / INDEX_FILE).write_bytes(index)
        for stage_id in ids:
            (place / entry_path(stage_id)).write_text("{}")
    servers = [serve(index) for _ in places]
    urls = [f"http://127.0.0.1:{server.server_address[1]}/" for server in servers]
    plan = make_plan(load_config({"preset": "digits"}), load_experiments(), results=folder / "empty")
    cases = {"no shared store": [], "3 folders": [str(place) for place in places], "3 web servers": urls}
    times = measure({name: functools.partial(look_up, plan, where) for name, where in cases.items()})
    for name, seconds in times.items():
        print(f"looking up with {name:<18}{1e3 * seconds:8.1f} ms")
    for server in servers:
        server.shutdown()
        server.server_close()


def look_up(plan: Plan, locations: list[str]) -> float:
    """Seconds that planning takes longer."""
    config = plan.config.model_copy(update={"shared_stores": tuple(locations)})
    began = time.perf_counter()
    with_pulls(Plan(config, plan.results, plan.stages, plan.targets, plan.problems))
    return time.perf_counter() - began


def serve(index: bytes) -> ThreadingHTTPServer:
    """A web server that knows an index and ranges."""

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            first = self.headers.get("Range") == "bytes=0-0"
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes 0-0/{len(index)}")
            self.send_header("Content-Length", str(1 if first else len(index)))
            self.end_headers()
            self.wfile.write(index[:1] if first else index)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else ".") as temporary:
        main(Path(temporary))
