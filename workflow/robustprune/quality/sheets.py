"""Pictures of generated images: a sheet a class, and the ones nearest to a real image beside it."""

from pathlib import Path

import numpy as np

from robustprune.pools.contact_sheet import contact_sheet
from robustprune.pools.format import Pool
from robustprune.quality.measuring import Seen

LINES, COLUMNS = 8, 12  # of a class's sheet


def draw_class_sheets(folder: Path, pool: Pool, seen: Seen) -> None:
    """Write ``<class>.png`` for each class: its first images, line by line."""
    folder.mkdir(exist_ok=True)
    for label in range(pool.info.classes):
        rows = seen.rows[seen.labels == label][: LINES * COLUMNS]
        lines = np.arange(len(rows)) // COLUMNS
        contact_sheet(np.array(pool.images[rows]), lines, LINES, COLUMNS).save(folder / f"{label}.png")


def draw_nearest(path: Path, pool: Pool, train: Pool, seen: Seen) -> None:
    """Above (0) the generated images that are nearest to a real one, the nearest first; below (1) the real ones."""
    order = np.argsort(seen.distance, kind="stable")[:COLUMNS]
    pairs = np.concatenate([pool.images[seen.rows[order]], train.images[seen.neighbour[order]]])
    contact_sheet(pairs, np.repeat([0, 1], len(order)), 2, COLUMNS).save(path)
