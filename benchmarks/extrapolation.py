"""The k nearest of many sources, ours beside scikit-learn's brute force and, where it is installed, faiss.

    python benchmarks/extrapolation.py                    100,000 sources, 8,192 targets at a time, 3 rounds
    python benchmarks/extrapolation.py --targets 100000   as many targets as sources; takes an hour on 2 cores

The searches take turns, so that what else the machine does meets all of them alike; medians and their ratios are
printed. All search the same float32 vectors and must find the same neighbours.
"""

import argparse
import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.neighbors import NearestNeighbors

from robustprune.scores.extrapolated import EXTRAPOLATED_TOGETHER as TOGETHER
from robustprune.scores.neighbours import Points, Space, nearest

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
AGREE = 0.9999  # share of neighbours; rounding may swap a pair


def ours(sources: Vectors, targets: Vectors, k: int) -> Rows:
    """As the stage does it."""
    points = Points(sources, np.arange(len(sources)))
    space = Space("euclidean", points)
    blocks = range(0, len(targets), TOGETHER)
    found = [nearest(torch.from_numpy(targets[i : i + TOGETHER]), points, space, k=k).row for i in blocks]
    return np.concatenate(found)


def scikit_learn(sources: Vectors, targets: Vectors, k: int) -> Rows:
    """Exact, by its own blocks."""
    rows: Rows = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(sources).kneighbors(targets)[1]
    return rows


def faiss_flat(sources: Vectors, targets: Vectors, k: int) -> Rows:
    """Exact, faiss's flat index."""
    index: Any = importlib.import_module("faiss").IndexFlatL2(sources.shape[1])
    index.add(sources)
    rows: Rows = index.search(targets, k)[1]
    return rows


def main() -> None:
    """Print the median seconds of each search, and how many times ours it takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"sources": 100_000, "targets": TOGETHER, "dimension": 512, "k": 35, "rounds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    random = np.random.default_rng(0)
    sources = random.standard_normal((options.sources, options.dimension), dtype=np.float32)
    targets = random.standard_normal((options.targets, options.dimension), dtype=np.float32)

    searches: dict[str, Callable[[Vectors, Vectors, int], Rows]] = {"ours": ours, "scikit-learn": scikit_learn}
    if importlib.util.find_spec("faiss"):
        searches["faiss"] = faiss_flat
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    found: dict[str, Rows] = {}
    for _ in range(options.rounds):
        for name, search in searches.items():
            started = time.perf_counter()
            found[name] = search(sources, targets, options.k)
            seconds[name].append(time.perf_counter() - started)

    shape = f"{options.targets:,} x {options.sources:,}, D = {options.dimension}, k = {options.k}"
    print(f"{shape}, {options.threads} threads, median of {options.rounds}")
    reference = statistics.median(seconds["ours"])
    for name, times in seconds.items():
        agreement = float((np.sort(found[name], 1) == np.sort(found["ours"], 1)).mean())
        if agreement < AGREE:
            raise SystemExit(f"{name} finds other neighbours than ours: {1 - agreement:.2%} differ")
        median = statistics.median(times)
        spread = f"{min(times):.1f} to {max(times):.1f}"
        print(f"{name:13s}{median:8.1f} s  ({spread})  {median / reference:.2f} times ours")


if __name__ == "__main__":
    main()
