"""Reads the tables and figures of each paper."""

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar, Union, get_args

from pydantic import AfterValidator, Field, ValidationError

from robustprune.core.errors import UserError
from robustprune.core.paths import EXPERIMENTS
from robustprune.core.settings import Settings
from robustprune.core.wording import what_is_wrong
from robustprune.core.yaml_files import read_yaml
from robustprune.experiments.figures.figure import FIGURES, FigureForm
from robustprune.experiments.tables.forms import AnyTable
from robustprune.experiments.tables.quantity import Form

FORMS = (*get_args(Form), *FIGURES)
if TYPE_CHECKING:
    AnyFigure = FigureForm
else:  # each form that is declared
    AnyFigure = Annotated[Union[tuple(FIGURES[form] for form in FIGURES)], Field(discriminator="form")]  # noqa: UP007

KINDS = ("float", "int", "str")
"""What pydantic puts into the place of an error, and readers of the file do not see."""


Entry = TypeVar("Entry")


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+([_-][a-z0-9]+)*", name):
        raise ValueError("should be of lower-case letters and digits, with _ or - between them")
    return name


Name = Annotated[str, AfterValidator(_checked_name)]
"""Of a paper, table or figure: part of a stage's id."""


class Experiments(Settings):
    """The tables and figures of one paper."""

    paper: Name
    tables: dict[Name, AnyTable] = Field(default_factory=dict)
    figures: dict[Name, AnyFigure] = Field(default_factory=dict)


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
            raise UserError(f"{path.name}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    """What is wrong with one key, with all that it could be instead."""
    problems = error.errors()
    keys = [_key(problem["loc"]) for problem in problems]
    deepest = (
        one for one, key in zip(problems, keys, strict=True) if not any(other.startswith(f"{key}.") for other in keys)
    )
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), next(deepest))
    key, given = _key(problem["loc"]), problem["input"]
    section = isinstance(given, dict) or (isinstance(given, list) and problem["type"] == "extra_forbidden")
    value = "" if section else f" = {given if isinstance(given, Fraction) else repr(given)}"
    alike = (one for one in problems if _key(one["loc"]) == key)
    words = dict.fromkeys(what_is_wrong(one, Experiments) for one in alike)
    return f"{key}{value}{' ' if problem['type'] == 'missing' else ': '}{'; or '.join(words)}"


def _key(location: tuple[str | int, ...]) -> str:
    """Where it is in the file, without the names of what it could be: the form comes after the entry's own name."""
    kind, *name = location[:2]
    below = [part for part in location[2:] if part not in KINDS and "[" not in str(part)]
    return ".".join(str(part) for part in (kind, *name, *(below[1:] if below[:1] and below[0] in FORMS else below)))
