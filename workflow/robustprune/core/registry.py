"""The kinds of stages there are: the classes that the package declares, found without being listed."""

import importlib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from inspect import isabstract
from typing import Any, Literal, NamedTuple, get_args, get_origin

from robustprune.core.declarations import Named
from robustprune.core.definitions import modules_in, source_of
from robustprune.core.stage import Stage

_DECLARES_A_STAGE = re.compile(r"^class \w+Stage\(", re.MULTILINE)


@cache
def stage_classes() -> tuple[type[Stage], ...]:
    """Return every class of stage, importing the modules that declare one."""
    for module in modules_in("robustprune"):
        if _DECLARES_A_STAGE.search(source_of(module)):
            importlib.import_module(module)
    root: Any = Stage  # abstract, and mypy takes no abstract class as a value
    return tuple(stage for stage in _below(root) if not isabstract(stage))


class Kind(NamedTuple):
    """A kind of stages, as the rules see it."""

    name: str  # also of its folder
    rule: str  # name of its rule, as people see it in logs
    files: tuple[str, ...]  # outputs, besides the record, that people may ask for
    local: bool  # True if its stages take seconds and run where Snakemake runs


def kinds() -> list[Kind]:
    """Return every kind of stage, by name."""
    found = {}
    for stage in stage_classes():
        name = stage.kind_name()
        singular = f"{name[:-3]}y" if name.endswith("ies") else name.removesuffix("s")
        found[name] = Kind(name, stage.rule or singular, stage.files, stage.local)
    return sorted(found.values())


@cache
def resource_keys() -> dict[str, bool]:
    """Return the keys under which jobs ask for resources, and whether any stage under it can use a GPU."""
    keys: dict[str, bool] = {}
    for stage in stage_classes():
        if not stage.local:
            key = stage.resources or stage.kind_name()
            keys[key] = keys.get(key, False) or stage.uses_device
    return dict(sorted(keys.items()))


def stage_from(content: Mapping[str, Any]) -> Stage:
    """Return the stage that a mapping describes, as in ``spec.json``.

    Raises LookupError where no class of stage fits, and pydantic.ValidationError for a value that is not allowed.
    """
    candidates = [stage for stage in stage_classes() if _fits(stage, content)]
    if len(candidates) != 1:
        kind = content.get("kind")
        raise LookupError(f"no stage is of kind {kind!r} with these keys" if not candidates else f"kind {kind!r}")
    return candidates[0].model_validate(content)


def _fits(stage: type[Stage], content: Mapping[str, Any]) -> bool:
    """Return True if the fields that distinguish the classes have this class's values in ``content``."""
    for name in _telling_fields() & stage.model_fields.keys():
        field, value = stage.model_fields[name], content.get(name)
        if get_origin(field.annotation) is Literal and value not in get_args(field.annotation):
            return False
        if any(isinstance(mark, Named) and str(value) not in mark for mark in field.metadata):
            return False
    return True


@cache
def _telling_fields() -> frozenset[str]:
    """Return the fields that have but one possible word in some class, such as kind and origin."""
    return frozenset(
        name
        for stage in stage_classes()
        for name, field in stage.model_fields.items()
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
    )


def _below(stage: type[Stage]) -> Iterator[type[Stage]]:
    for subclass in stage.__subclasses__():
        yield subclass
        yield from _below(subclass)
