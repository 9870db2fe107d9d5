"""A picture of how a pool's margins are spread."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BINS = 100


def draw_margins(margins: npt.NDArray[np.float32], path: Path, *, norm: str, title: str) -> None:
    """Write a histogram of the finite margins, negative and positive ones apart, as PNG.

    Args:
        margins: (N,) signed; infinite ones are left out and counted in the legend.
        path: the file to write.
        norm: name of the norm, for the axis.
        title: what stands above.
    """
    finite = margins[np.isfinite(margins)]
    edges = _edges(finite)
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist(finite[finite >= 0], bins=edges, color="tab:blue", label=f"correct ({np.sum(finite >= 0):,})")
    axes.hist(finite[finite < 0], bins=edges, color="tab:red", label=f"misclassified ({np.sum(finite < 0):,})")
    axes.plot([], [], " ", label=f"no boundary found, not shown ({len(margins) - len(finite):,})")
    axes.set(title=title, xlabel=f"signed margin ({norm}, pixel range [0, 1])", ylabel="images")
    axes.legend()
    figure.savefig(path, dpi=150)


def _edges(finite: npt.NDArray[np.float32]) -> list[float]:
    """Edges of equal bins over all values, one of which is 0, so that no bin holds both signs."""
    low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
    width = (high - low) / BINS or 1.0
    return [width * step for step in range(math.floor(low / width), math.ceil(high / width) + 1)]
