"""Choices that are declared by a decorator, each in one place, and found without being listed.

A metric, radius rule, strategy, architecture, data format, table quantity or figure form is one function or class
with a decorator, e.g. ``@metric("forgetting", unit="times", easy="low")``. The files of a folder are searched as text,
so the plan knows every name and what its decorator says without importing torch.
"""

import ast
import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, SerializationInfo
from pydantic_core import CoreSchema, core_schema

from robustprune.core.definitions import modules_in, source_of
from robustprune.core.wording import suggestion

T = TypeVar("T")


class Declarations(Generic[T]):
    """All choices of one sort, by name: those that ``@<decorator>`` declares in the modules of a package.

    The decorator's first argument is the choice's name; the others are literals.
    """

    def __init__(self, decorator: str, folder: str) -> None:
        self.decorator, self.folder = decorator, folder
        self.what = decorator.replace("_", " ")
        self._declared: dict[str, T] = {}

    def declare(self, name: str, choice: T) -> T:
        """Keep a choice; its decorator calls this."""
        self._declared[name] = choice
        return choice

    def __getitem__(self, name: str) -> T:
        """Return the choice of that name, importing the module that declares it. Raises ValueError for another name."""
        importlib.import_module(self.module(name))
        return self._declared[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, by module and line."""
        return iter(self._facts)

    def __contains__(self, name: str) -> bool:
        return name in self._facts

    def module(self, name: str) -> str:
        """Return the module that declares a choice. Raises ValueError, which lists the names, for another name."""
        return self._facts[self.known(name)][0]

    def facts(self, name: str) -> dict[str, Any]:
        """Return the keyword arguments of a choice's decorator, without importing its module."""
        return self._facts[self.known(name)][1]

    def known(self, name: str) -> str:
        """Return ``name``. Raises ValueError, which lists what there is, where nothing of that name is declared."""
        if name not in self._facts:
            raise ValueError(f"there is no {self.what} {name!r}{suggestion(name, list(self))}")
        return name

    @cached_property
    def _facts(self) -> dict[str, tuple[str, dict[str, Any]]]:
        facts: dict[str, tuple[str, dict[str, Any]]] = {}
        for module in modules_in(self.folder):
            source = source_of(module)
            if not re.search(rf"^@{self.decorator}\(", source, re.MULTILINE):
                continue
            for name, keywords in _decorated(ast.parse(source), self.decorator):
                if name in facts:
                    raise LookupError(f"{module} and {facts[name][0]} both declare the {self.decorator} {name}")
                facts[name] = (module, keywords)
        return facts


class Named:
    """Mark of a field that holds the name of a choice of some sorts: ``Annotated[str, Named(METRICS)]``."""

    def __init__(self, *sorts: Declarations[Any]) -> None:
        self.sorts = sorts

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the name after the field's own type."""
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __contains__(self, name: str) -> bool:
        return any(name in sort for sort in self.sorts)

    def module(self, name: str) -> str:
        """Return the module that declares the choice of that name."""
        return next(sort.module(name) for sort in self.sorts if name in sort)

    def _known(self, name: str) -> str:
        if name not in self:
            names = [known for sort in self.sorts for known in sort]
            raise ValueError(f"there is no {self.sorts[0].what} {name!r}{suggestion(name, names)}")
        return name


@dataclass(frozen=True)
class OneOf:
    """Mark of a field that holds the settings of a choice: ``Annotated[Recipe, OneOf(RECIPES, "recipe")]``.

    The choices are classes below the field's own; ``tag`` is the key that names the choice.
    """

    declarations: Declarations[Any]
    tag: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Take settings as they are, and a mapping as the settings of the choice that its tag names."""
        return core_schema.no_info_plain_validator_function(
            self._validated, serialization=core_schema.plain_serializer_function_ser_schema(_dumped, info_arg=True)
        )

    def _validated(self, value: Any) -> Any:
        if isinstance(value, BaseModel):
            return value
        if not isinstance(value, Mapping):
            raise ValueError("should be a section of keys")  # noqa: TRY004  # for pydantic
        if self.tag not in value:
            raise ValueError(f"the key {self.tag} is missing; allowed are {', '.join(self.declarations)}")
        return self.declarations[self.declarations.known(str(value[self.tag]))].model_validate(value)


def _dumped(value: BaseModel, info: SerializationInfo) -> dict[str, Any]:
    return value.model_dump(mode=info.mode, exclude_unset=info.exclude_unset)


def _decorated(tree: ast.Module, decorator: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the keyword arguments of each use of a decorator at the top of a module."""
    for node in tree.body:
        for call in getattr(node, "decorator_list", ()):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == decorator:
                keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg}
                yield ast.literal_eval(call.args[0]), keywords
