"""A picture of how a pool's scores are spread."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BINS = 100


def draw_scores(scores: npt.NDArray[np.float32], path: Path, *, label: str, title: str) -> None:
    """Write a histogram of the finite scores as PNG, negative and positive ones apart.

    Args:
        scores: (N,) signed; infinite ones are left out and counted in the legend.
        path: the file to write.
        label: what the axis says: the score and its unit.
        title: what stands above.
    """
    finite = scores[np.isfinite(scores)]
    edges = _edges(finite)
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist(finite[finite >= 0], bins=edges, color="tab:blue", label=f"0 or more ({np.sum(finite >= 0):,})")
    axes.hist(finite[finite < 0], bins=edges, color="tab:red", label=f"negative ({np.sum(finite < 0):,})")
    axes.plot([], [], " ", label=f"infinite, not shown ({len(scores) - len(finite):,})")
    axes.set(title=title, xlabel=label, ylabel="images")
    axes.legend()
    figure.savefig(path, dpi=150)


def _edges(finite: npt.NDArray[np.float32]) -> list[float]:
    """Edges of equal bins over all values, one of which is 0, so that no bin holds both signs."""
    low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
    width = (high - low) / BINS or 1.0
    return [width * step for step in range(math.floor(low / width), math.ceil(high / width) + 1)]
