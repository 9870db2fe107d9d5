"""The base classes of all figures, and their style. A form of figure is one file: YAML entry, stage and drawing.

An entry is a class with the decorator ``@figure_form("name")``: its fields are the keys of the YAML entry, and ``plan``
adds the stages that the figure reads and its own. Forms are found by their decorators and listed nowhere.

Line, marker and colour of each series differ, so that figures can be read in grey and by the colour-blind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, Field

from robustprune.core.declarations import Declarations, OneOf
from robustprune.core.files import replacing, write_text
from robustprune.core.paths import CAPTION_FILE, FIGURE_DATA_FILE, FIGURE_FILE
from robustprune.core.settings import Line, Settings
from robustprune.core.stage import Stage
from robustprune.core.stage_file import read_spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustprune.core.job import Job
    from robustprune.planning.context import Context

DEFINITION = {"figures.style": 1}

COLORS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""The palette of Okabe and Ito (2008)."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)), (0, (6, 2, 1, 2)))


class FigureEntry(Settings, ABC):
    """The keys of a figure of any form in a file of experiments."""

    form: str
    title: Line
    target: str = Field(
        pattern=r"^[\w-]+(/[\w-]+)*\.svg$", description="file under results/ that shows it; data and caption lie beside"
    )

    @abstractmethod
    def plan(self, name: str, context: Context) -> str:
        """Plan the figure's stage and return its id. Raises UserError for what the configuration does not allow."""


Entry = TypeVar("Entry", bound=type[FigureEntry])

FIGURE_FORMS: Declarations[type[FigureEntry]] = Declarations("figure_form", "robustprune.experiments.figures")
AnyFigure = Annotated[FigureEntry, OneOf(FIGURE_FORMS, "form")]
"""An entry of any of the declared forms; its key ``form`` tells which."""


def figure_form(name: str) -> Callable[[Entry], Entry]:
    """Declare a form of figure: ``@figure_form("curves")`` before the class of its entry."""

    def declare(entry: Entry) -> Entry:
        FIGURE_FORMS.declare(name, entry)
        return entry

    return declare


class FigureStage(Stage):
    """The fields that the stages of all figures have."""

    sentence = "a picture with its data, and a caption that checks what is claimed"
    local = True
    files = (FIGURE_FILE, FIGURE_DATA_FILE, CAPTION_FILE)
    kind: Literal["figures"] = "figures"
    name: str
    title: str

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").replace(".", "-")


class Panel(NamedTuple):
    """A quantity in a figure: its label with the unit, and how many decimals are shown."""

    label: str
    decimals: int


def open_study(job: Job, study: str) -> tuple[Any, Any]:
    """Return the stage of a study that a figure reads, and its results."""
    directory = job.upstream("studies", study)
    stage: Any = read_spec(directory)
    return stage, stage.results(directory)


def in_words(words: Mapping[str, object]) -> AfterValidator:
    """Return the validator of a field that takes the keys of ``words``."""

    def known(key: str) -> str:
        if key not in words:
            raise ValueError(f"there is no {key!r}; allowed are {', '.join(words)}")
        return key

    return AfterValidator(known)


def refuse_duplicates(names: Sequence[str], what: str) -> None:
    """Raise ValueError where two of ``what`` have the same name."""
    if len(set(names)) < len(names):
        raise ValueError(f"two {what} have the same name: {', '.join(names)}")


def publish_figure(job: Job, figure: Figure, data: pd.DataFrame, caption: list[str]) -> None:
    """Publish a figure as SVG, its data as CSV, and its caption, a sentence a paragraph."""
    with replacing(job.partial / FIGURE_FILE) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    with replacing(job.partial / FIGURE_DATA_FILE) as temporary:
        data.to_csv(temporary, index=False, lineterminator="\n")
    write_text(job.partial / CAPTION_FILE, "\n\n".join(caption) + "\n")
    job.publish(FIGURE_FILE, FIGURE_DATA_FILE, CAPTION_FILE)


class SeriesStyle(NamedTuple):
    """The style of a series, the same in every panel; ``_asdict`` has matplotlib's keywords."""

    color: str
    marker: str
    linestyle: Any

    @classmethod
    def numbered(cls, number: int) -> SeriesStyle:
        """Return the style of the series of that number, counted from 0."""
        return cls(COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)], LINES[number % len(LINES)])


@cache
def _set_style() -> None:
    import matplotlib

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


def new_panels(rows: int, columns: int, *, width: float = 3.2, height: float = 2.6) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of rows x columns panels, each so many inches wide and high, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    _set_style()
    figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False).tolist()


def make_logarithmic(axes: Axes) -> None:
    """Make both axes logarithmic, after all is drawn; one of less than a decade gets few plain numbers."""
    from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator, ScalarFormatter

    axes.set(xscale="log", yscale="log")
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        axis.set_minor_formatter(NullFormatter())
        if high < 10 * low:
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_locator(NullLocator())


def legend_below(figure: Figure, *panels: Axes, columns: int) -> None:
    """Draw one legend for all panels, of the series in these, each once."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
