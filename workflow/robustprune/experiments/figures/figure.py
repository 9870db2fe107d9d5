"""Figures: pictures with their data and a caption, one form per file of this folder.

A form is the class of what a paper's YAML says of a figure, which plans the figure's stage; the stage draws it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from pydantic import Field

from robustprune.core.declarations import Declarations
from robustprune.core.settings import Line, Settings
from robustprune.core.stage import Stage
from robustprune.experiments.tables.forms import target_pattern

if TYPE_CHECKING:
    from robustprune.planning.context import Context

FIGURES: Declarations[type[FigureForm]] = Declarations("figure", "robustprune.experiments.figures")

AnyForm = TypeVar("AnyForm", bound="type[FigureForm]")


def figure(form: str) -> Callable[[AnyForm], AnyForm]:
    """Declare a form of figures by the class of its settings."""

    def declare(form_class: AnyForm) -> AnyForm:
        FIGURES.declare(form, form_class)
        return form_class

    return declare


class FigureForm(Settings, ABC):
    """A figure of a paper, as its YAML has it."""

    form: str
    title: Line
    target: str = Field(
        pattern=target_pattern("svg"), description="file under results/ that shows it; data and caption lie beside"
    )

    @abstractmethod
    def plan(self, context: Context, name: str) -> str:
        """Plan the figure's stage and what it reads, and return its id.

        Raises:
            UserError: for rows that the configuration does not allow.
        """


class Panel(NamedTuple):
    """A quantity as it is shown.

    Attributes:
        label: what it is, with its unit.
        decimals: digits behind the point that are worth showing.
    """

    label: str
    decimals: int


class FigureStage(Stage):
    """What every figure has."""

    sentence = "a picture with its data, and a caption that checks what is claimed"
    local = True
    files = ("figure.svg", "figure.csv", "caption.md")
    kind: Literal["figures"] = "figures"
    name: str
    title: str

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").replace(".", "-")
