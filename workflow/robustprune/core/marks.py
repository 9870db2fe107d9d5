"""Marks on the fields of settings: a field that refers to another stage, or that names a declared choice.

Both stand in the field's annotation, also within tuples, dicts and unions, and are read from there: which stages are
upstream of one, and which modules decide its numbers, is never written down a second time.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel

T = TypeVar("T")


@dataclass(frozen=True)
class Ref:
    """Mark of a field that holds stage ids: ``pool: Annotated[StageId, Ref("pools")]``."""

    kind: str = ""
    kind_in: str = ""  # instead: the sibling field that holds the kind, where that differs from value to value


def references_of(model: BaseModel) -> Iterator[tuple[str, str]]:
    """Yield (kind, id) of each stage that a model refers to, in the order of its fields."""
    for ref, value, holder in marked(model, Ref):
        yield ref.kind or str(getattr(holder, ref.kind_in)), value


def marked(model: BaseModel, mark: Callable[..., T]) -> Iterator[tuple[T, str, BaseModel]]:
    """Yield each string in a model's fields with a mark of that type, as (mark, string, the model that holds it)."""
    for holder in held_by(model):
        for name, annotation in _fields_that_hold(type(holder), mark):
            for found, text in _strings(annotation, getattr(holder, name), mark):
                yield found, text, holder


def held_by(model: BaseModel) -> Iterator[BaseModel]:
    """Yield a model and all models in its fields, however deep."""
    yield model
    for name in _fields_that_hold(type(model), BaseModel):
        yield from _models(getattr(model, name[0]))


def _models(value: Any) -> Iterator[BaseModel]:
    if isinstance(value, BaseModel):
        yield from held_by(value)
    elif isinstance(value, (tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _models(item)


def _strings(annotation: Any, value: Any, mark: Callable[..., T]) -> Iterator[tuple[T, str]]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _strings(_within(annotation, dict)[1], item, mark)
    elif isinstance(value, tuple):
        inner = _within(annotation, tuple)
        parts = inner[:1] * len(value) if inner[1:] == (Ellipsis,) else inner
        for part, item in zip(parts, value, strict=False):
            yield from _strings(part, item, mark)
    elif isinstance(value, str):
        yield from ((found, value) for found in _marks(annotation, mark)[:1])


@cache
def _fields_that_hold(model: type[BaseModel], wanted: Hashable) -> tuple[tuple[str, Any], ...]:
    """Return the fields, with their annotations, in which there can be a mark or a model of that type."""
    annotated = {
        name: Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        for name, field in model.model_fields.items()
    }
    return tuple((name, annotation) for name, annotation in annotated.items() if _marks(annotation, wanted))


def _marks(annotation: Any, wanted: Any) -> list[Any]:
    """Return all marks of a type in an annotation; for a type of model, each model class that is one."""
    if isinstance(annotation, wanted) or (isinstance(annotation, type) and issubclass(annotation, wanted)):
        return [annotation]
    parts = (*getattr(annotation, "__metadata__", ()), *get_args(annotation))
    return [found for part in parts if part is not Ellipsis for found in _marks(part, wanted)]


def _within(annotation: Any, container: type) -> tuple[Any, ...]:
    """Return the arguments of the tuple or dict in an annotation."""
    if get_origin(annotation) is container:
        return get_args(annotation)
    return next((inner for part in get_args(annotation) if (inner := _within(part, container))), ())
