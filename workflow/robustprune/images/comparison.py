"""What two pools have in common: rows of a pool that both are parts of, and images of the same pixels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustprune.images.drawing import Rows
from robustprune.images.duplicates import rows_also_in
from robustprune.images.pool import ROWS_FILE, open_pool, read_digests


@dataclass(frozen=True)
class Origins:
    """The file and row of each image of a pool.

    Attributes:
        pools: ids of pools that hold images themselves.
        pool: (N,) which of them.
        row: (N,) and which row of it.
    """

    pools: tuple[str, ...]
    pool: npt.NDArray[np.int64]
    row: Rows


def origins(directory: Path) -> Origins:
    """Return where the images of the pool in a directory lie. Raises UserError where it cannot be read."""
    info = open_pool(directory).info
    if info.storage != "view":
        return Origins((directory.name,), np.zeros(info.count, np.int64), np.arange(info.count))
    parts = [origins(directory.absolute().parent / member.pool) for member in info.members]
    pools = tuple(dict.fromkeys(pool for part in parts for pool in part.pools))
    places = [np.array([pools.index(pool) for pool in part.pools])[part.pool] for part in parts]
    pool, row = np.concatenate(places), np.concatenate([part.row for part in parts])
    if (directory / ROWS_FILE).is_file():
        chosen = np.load(directory / ROWS_FILE, mmap_mode="r")
        pool, row = pool[chosen], row[chosen]
    return Origins(pools, pool, row)


def shared_by_row(first: Origins, second: Origins) -> dict[str, int]:
    """Return how many rows of each pool that both have images of are in both."""
    counts = {}
    for name in first.pools:
        if name in second.pools:
            rows = [own.row[own.pool == own.pools.index(name)] for own in (first, second)]
            counts[name] = len(np.intersect1d(*rows))
    return counts


def compare_pools(first: Path, second: Path) -> str:
    """Return what two pools have in common, as text.

    Args:
        first: a pool's directory.
        second: another's.

    Raises:
        UserError: when one is no pool, or a pool that it has images of is gone.
    """
    lines = [f"{letter}  {path}: {len(open_pool(path)):,} images" for letter, path in (("A", first), ("B", second))]
    by_row = shared_by_row(origins(first), origins(second))
    lines += [f"in both, rows of {name}: {count:,}" for name, count in by_row.items()]
    if not by_row:
        lines.append("in both, rows: none, as they are no parts of one pool")
    digests = [read_digests(path) for path in (first, second)]
    equal = len(rows_also_in(*digests))
    lines.append(f"in both, by their pixels: {equal:,} images of A")
    lines.append("they overlap" if equal or any(by_row.values()) else "they are disjoint")
    return "\n".join(lines)
