"""What is wrong in a file of settings, in the words of its reader: pydantic's findings, and which key was meant."""

import difflib
from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

IN_WORDS = {
    "missing": "is missing",
    "tuple_type": "should be a list, in brackets",
    "model_type": "should be a section of keys",
    "model_attributes_type": "should be a section of keys",
    "dict_type": "should be a section of keys",
}
"""What pydantic says in Python's words, by its type of error."""


def what_is_wrong(problem: ErrorDetails, model: type[BaseModel]) -> str:
    """Return the end of a sentence on a problem in a file of that model; it begins with the key."""
    context = {name: str(value).replace("'", "") for name, value in problem.get("ctx", {}).items()}
    match problem["type"]:
        case "extra_forbidden":
            *section, key = problem["loc"]
            return f"there is no such key{suggestion(str(key), keys_at(model, section))}"
        case "union_tag_not_found":
            return f"the key {context['discriminator']} is missing"
        case "union_tag_invalid":
            known = context["expected_tags"].split(", ")
            return f"there is no {context['discriminator']} {context['tag']!r}{suggestion(context['tag'], known)}"
    return IN_WORDS.get(problem["type"], problem["msg"].removeprefix("Value error, "))


def keys_at(model: type[BaseModel], location: Iterable[str | int]) -> list[str]:
    """Return the keys of a section of the model, of all that it can be where that is not known.

    The location is pydantic's: beside keys and numbers it names which of several forms a section has, and which of
    several types a value.
    """
    here: list[Any] = [model]
    for part in location:
        below = [found for section in here for found in _within(section, part)]
        here = below or [section for section in here if _has_form(section, part)] or here
    return list(dict.fromkeys(key for section in here for key in getattr(section, "model_fields", ())))


def _within(section: Any, part: str | int) -> list[Any]:
    if get_origin(section) in (dict, tuple):
        *_, value = [argument for argument in get_args(section) if argument is not Ellipsis]
        return _alternatives(value)
    fields = getattr(section, "model_fields", {})
    return _alternatives(fields[part].annotation) if part in fields else []


def _has_form(section: Any, part: str | int) -> bool:
    fields = getattr(section, "model_fields", {})
    return "form" in fields and part in get_args(fields["form"].annotation)


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return [found for argument in get_args(annotation) for found in _alternatives(argument)]
    return [annotation]


def suggestion(word: str, known: list[str]) -> str:
    """The end of a sentence on a word that is not among those known: which was meant, or which there are."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else f"; allowed are {', '.join(known)}"
