"""A picture of how a pool's scores are spread."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from robustprune.scores.distribution import Histogram


def draw_scores(histogram: Histogram, path: Path, *, censored: int, label: str, title: str) -> None:
    """Write a histogram of the finite scores as PNG, negative and positive ones in different colours.

    Args:
        histogram: of the finite scores.
        path: the file to write.
        censored: how many are not finite, for the legend.
        label: what the axis says: the score and its unit.
        title: what stands above.
    """
    edges, counts = np.array(histogram.edges), np.array(histogram.counts)
    negative = edges[:-1] < 0
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, color, chosen in (("0 or more", "tab:blue", ~negative), ("negative", "tab:red", negative)):
        heights = np.where(chosen, counts, 0)
        axes.stairs(heights, edges, fill=True, color=color, label=f"{name} ({heights.sum():,})")
    axes.plot([], [], " ", label=f"not finite, not shown ({censored:,})")
    axes.set(title=title, xlabel=label, ylabel="images")
    axes.legend()
    figure.savefig(path, dpi=150)
