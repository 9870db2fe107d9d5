"""One style for all figures: told apart in grey and by the colour-blind, because line, marker and colour all differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator, ScalarFormatter

from robustprune.core.files import replacing, write_text

if TYPE_CHECKING:
    from robustprune.core.job import Job

FIGURE_FILE, DATA_FILE, CAPTION_FILE = "figure.svg", "figure.csv", "caption.md"


def publish_figure(job: Job, figure: Figure, data: pd.DataFrame, caption: list[str]) -> None:
    """Publish a figure as SVG, its data as CSV, and its caption, a sentence a paragraph."""
    with replacing(job.partial / FIGURE_FILE) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    with replacing(job.partial / DATA_FILE) as temporary:
        data.to_csv(temporary, index=False, lineterminator="\n")
    write_text(job.partial / CAPTION_FILE, "\n\n".join(caption) + "\n")
    job.publish(FIGURE_FILE, DATA_FILE, CAPTION_FILE)


DEFINITION = {"figures.style": 1}

COLORS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""The palette of Okabe and Ito (2008)."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)), (0, (6, 2, 1, 2)))

matplotlib.rcParams.update(
    {
        "svg.hashsalt": "robustprune",  # the same data give the same bytes
        "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
        "font.size": 9,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "grid.linewidth": 0.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.3,
        "lines.markersize": 4,
    }
)


class Series(NamedTuple):
    """How a series is drawn, the same in every panel."""

    color: str
    marker: str
    line: Any

    @classmethod
    def numbered(cls, number: int) -> Series:
        """The style of the series of that number, counted from 0."""
        return cls(COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)], LINES[number % len(LINES)])


def new_panels(rows: int, columns: int, *, width: float = 3.2, height: float = 2.6) -> tuple[Figure, list[list[Axes]]]:
    """A figure of rows x columns panels, each so many inches wide and high, and its axes."""
    figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False).tolist()


def make_logarithmic(axes: Axes) -> None:
    """Both axes logarithmic, after all is drawn; one of less than a decade gets few plain numbers, so none touch."""
    axes.set(xscale="log", yscale="log")
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        axis.set_minor_formatter(NullFormatter())
        if high < 10 * low:
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_locator(NullLocator())


def legend_below(figure: Figure, *panels: Axes, columns: int) -> None:
    """One legend for all panels, of the series in these, each once."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
