"""Reads the tables and figures of each paper."""

import difflib
import functools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from robustprune.config import EXPERIMENTS, read_yaml
from robustprune.errors import UserError
from robustprune.experiments.figures import FIGURE_FORMS, AnyFigure
from robustprune.experiments.rows import Row
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
            problem, *others = error.errors()
            key = _key(problem["loc"])
            given = problem["input"]
            value = "" if isinstance(given, dict) else f" = {given if isinstance(given, Fraction) else repr(given)}"
            alike = [problem, *(other for other in others if _key(other["loc"]) == key)]  # all that it could be
            words = dict.fromkeys(_words(one) for one in alike)
            raise UserError(f"{path.name}: {key}{value}: {'; or '.join(words)}") from None


def _words(problem: ErrorDetails) -> str:
    """What is wrong, with what may have been meant."""
    if problem["type"] != "extra_forbidden":
        return problem["msg"].removeprefix("Value error, ")
    key = str(problem["loc"][-1])
    section = Row if {"rows", "series", "beside"} & set(problem["loc"]) else Experiments
    near = difflib.get_close_matches(key, _keys_within(section) - {key}, n=1)
    return "there is no such key here" + (f" (did you mean {near[0]!r}?)" if near else "")


@functools.cache
def _keys_within(annotation: Any) -> frozenset[str]:
    """Every key that a section, or one within it, may have."""
    keys: set[str] = set()
    left, seen = [annotation], set()
    while left:
        part = left.pop()
        fields = getattr(part, "model_fields", {})
        if part in seen:
            continue
        seen.add(part)
        keys |= set(fields)
        left += [field.annotation for field in fields.values()] + list(get_args(part))
    return frozenset(keys)


def _key(location: tuple[str | int, ...]) -> str:
    """Where it is in the file, without the names of what it could be."""
    return ".".join(str(part) for part in location if part not in (*FORMS, *KINDS) and "[" not in str(part))
