"""The files of experiments: the tables and figures of each paper."""

import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import ErrorDetails

from robustprune.core.errors import UserError
from robustprune.core.paths import EXPERIMENTS
from robustprune.core.settings import Settings
from robustprune.core.wording import what_is_wrong
from robustprune.core.yaml_files import read_yaml
from robustprune.experiments.figures.figure import FIGURE_FORMS, AnyFigure
from robustprune.experiments.tables.forms import AnyTable
from robustprune.experiments.tables.quantity import Form

TABLE_FORMS = get_args(Form)
KINDS = ("float", "int", "str")  # parts of pydantic's locations that are no keys of the file
Entry = TypeVar("Entry")


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+([_-][a-z0-9]+)*", name):
        raise ValueError("should be of lower-case letters and digits, with _ or - between them")
    return name


Name = Annotated[str, AfterValidator(_checked_name)]
"""Name of a paper, table or figure: part of a stage's id."""


class Experiments(Settings):
    """The tables and figures of one paper."""

    paper: Name
    tables: dict[Name, AnyTable] = Field(default_factory=dict)
    figures: dict[Name, AnyFigure] = Field(default_factory=dict)


def load_experiments(folder: Path = EXPERIMENTS) -> dict[str, AnyTable]:
    """Return every table of every paper, by ``<paper>.<table>``. Raises UserError naming the file and key."""
    return _named((f"{one.paper}.{name}", table) for one in _read(folder) for name, table in one.tables.items())


def load_figures(folder: Path = EXPERIMENTS) -> dict[str, AnyFigure]:
    """Return every figure of every paper, by ``<paper>.<figure>``. Raises UserError naming the file and key."""
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
        content = read_yaml(path)
        try:
            yield Experiments.model_validate(content)
        except ValidationError as error:
            raise UserError(f"{path.name}: {_sentence(error, content)}") from None


def _sentence(error: ValidationError, content: Mapping[str, Any]) -> str:
    """Return the problem of one key, with all that it could be instead."""
    problems = error.errors()
    keys = [_key(problem["loc"]) for problem in problems]
    deepest = (
        one for one, key in zip(problems, keys, strict=True) if not any(other.startswith(f"{key}.") for other in keys)
    )
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), next(deepest))
    key, given = _key(problem["loc"]), problem["input"]
    section = isinstance(given, dict) or (isinstance(given, list) and problem["type"] == "extra_forbidden")
    value = "" if section else f" = {given if isinstance(given, Fraction) else repr(given)}"
    words = dict.fromkeys(_words(one, content) for one in problems if _key(one["loc"]) == key)
    return f"{key}{value}{' ' if problem['type'] == 'missing' else ': '}{'; or '.join(words)}"


def _words(problem: ErrorDetails, content: Mapping[str, Any]) -> str:
    """Return the problem of a key; within a figure, by the keys of its form."""
    section, *location = problem["loc"]
    if section != "figures" or len(location) < 2:
        return what_is_wrong(problem, Experiments)
    name, *within = location
    form = FIGURE_FORMS[content[section][name]["form"]]
    return what_is_wrong({**problem, "loc": tuple(within)}, form)


def _key(location: tuple[str | int, ...]) -> str:
    """Return the key in the file, without the names of what could stand there."""
    kind, *name = location[:2]
    below = [part for part in location[2:] if part not in KINDS and "[" not in str(part)]
    if below and below[0] in TABLE_FORMS:
        below = below[1:]
    return ".".join(str(part) for part in (kind, *name, *below))
