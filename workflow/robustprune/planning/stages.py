"""The stages that are planned so far."""

from collections.abc import Mapping

from robustprune.sources import planned_rows
from robustprune.specs import (
    GeneratedPoolSpec,
    IngestedPoolSpec,
    SelectedPoolSpec,
    Spec,
    SubsetPoolSpec,
    UnionPart,
    UnionPoolSpec,
)


class Stages(dict[str, Spec]):
    """Every stage by its id; one that two rows need is there once."""

    def add(self, spec: Spec) -> str:
        """Put a stage in, where it is not there yet, and return its id."""
        stage_id = spec.id
        self.setdefault(stage_id, spec)
        return stage_id

    def share_images(self, one: str, other: str) -> bool:
        """Whether two pools are sure to have images in common; whether files have is not known before they are read."""
        if self._has_all(one, other) or self._has_all(other, one):
            return True
        parts = [(part.pool, other) for part in self._parts(one)] + [(one, part.pool) for part in self._parts(other)]
        return any(self.share_images(*pair) for pair in parts)

    def _has_all(self, outer: str, inner: str) -> bool:
        """Whether every image of ``inner`` is sure to be in ``outer``."""
        spec = self[inner]
        if outer == inner or any(self._has_all(part.pool, inner) for part in self._parts(outer)):
            return True
        if isinstance(spec, UnionPoolSpec):
            return all(self._has_all(outer, part.pool) for part in spec.parts)
        return isinstance(spec, SubsetPoolSpec | SelectedPoolSpec) and self._has_all(outer, spec.pool)

    def _parts(self, pool: str) -> tuple[UnionPart, ...]:
        spec = self[pool]
        return spec.parts if isinstance(spec, UnionPoolSpec) else ()


def rows_of(stages: Mapping[str, Spec], pool_id: str) -> int | None:
    """How many images a pool has or will have; None where that is not known before it is made."""
    match stages[pool_id]:
        case GeneratedPoolSpec(count=count) | SubsetPoolSpec(count=count):
            return count
        case UnionPoolSpec(parts=parts):
            counts = [rows_of(stages, part.pool) for part in parts]
            return None if None in counts else sum(count for count in counts if count is not None)
        case IngestedPoolSpec(source=source, split=split):
            return planned_rows(source, split)
        case SelectedPoolSpec() as selected:
            return _selected_rows(stages, selected)
    return None


def _selected_rows(stages: Mapping[str, Spec], spec: SelectedPoolSpec) -> int | None:
    """Where the classes come in turn, it is known how many images each has."""
    parent = stages[spec.pool]
    if not isinstance(parent, GeneratedPoolSpec):
        return None
    whole, rest = divmod(parent.count, spec.classes)
    return sum(spec.kept(whole + (label < rest)) for label in range(spec.classes))
