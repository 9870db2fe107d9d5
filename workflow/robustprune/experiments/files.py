"""Reads the tables and figures of each paper."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from robustprune.config import EXPERIMENTS, keys_at, read_yaml, suggestion
from robustprune.errors import UserError
from robustprune.experiments.figures import FIGURE_FORMS, AnyFigure
from robustprune.experiments.tables import AnyTable
from robustprune.settings import Settings
from robustprune.settings.tables import Form

FORMS = (*get_args(Form), *FIGURE_FORMS)
KINDS = ("float", "int", "str")
"""What pydantic puts into the place of an error, and readers of the file do not see."""


Entry = TypeVar("Entry")


class Experiments(Settings):
    """The tables and figures of one paper."""

    paper: str
    tables: dict[str, AnyTable] = Field(default_factory=dict)
    figures: dict[str, AnyFigure] = Field(default_factory=dict)


def load_experiments(folder: Path = EXPERIMENTS) -> dict[str, AnyTable]:
    """Every table of every paper, by ``<paper>.<table>``. Raises UserError naming the file and key."""
    return _named((f"{one.paper}.{name}", table) for one in _read(folder) for name, table in one.tables.items())


def load_figures(folder: Path = EXPERIMENTS) -> dict[str, AnyFigure]:
    """Every figure of every paper, by ``<paper>.<figure>``. Raises UserError naming the file and key."""
    return _named((f"{one.paper}.{name}", figure) for one in _read(folder) for name, figure in one.figures.items())


def _named(entries: Iterable[tuple[str, Entry]]) -> dict[str, Entry]:
    named: dict[str, Entry] = {}
    for name, entry in entries:
        if name in named:
            raise UserError(f"two files of experiments have {name}; give one another paper, or another name")
        named[name] = entry
    return named


def _read(folder: Path) -> Iterator[Experiments]:
    for path in sorted(folder.glob("*.yaml")):
        try:
            yield Experiments.model_validate(read_yaml(path))
        except ValidationError as error:
            problems = error.errors()
            problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
            key = _key(problem["loc"])
            given = problem["input"]
            section = isinstance(given, dict) or (isinstance(given, list) and problem["type"] == "extra_forbidden")
            value = "" if section else f" = {given if isinstance(given, Fraction) else repr(given)}"
            alike = [one for one in problems if _key(one["loc"]) == key]  # all that it could be
            words = dict.fromkeys(_words(one) for one in alike)
            raise UserError(f"{path.name}: {key}{value}: {'; or '.join(words)}") from None


def _words(problem: ErrorDetails) -> str:
    """What is wrong, with what may have been meant."""
    if problem["type"] != "extra_forbidden":
        return problem["msg"].removeprefix("Value error, ")
    *section, key = problem["loc"]
    return f"there is no such key{suggestion(str(key), keys_at(Experiments, section))}"


def _key(location: tuple[str | int, ...]) -> str:
    """Where it is in the file, without the names of what it could be."""
    return ".".join(str(part) for part in location if part not in (*FORMS, *KINDS) and "[" not in str(part))
