"""The stages that are planned so far."""

from collections.abc import Mapping

from robustprune.core.stage import Stage
from robustprune.generation.generated_pool import GeneratedPoolStage
from robustprune.images.ingested import IngestedPoolStage
from robustprune.images.sources import planned_rows
from robustprune.images.subset import SubsetPoolStage
from robustprune.images.union import UnionPart, UnionPoolStage
from robustprune.scores.selected_pool import SelectedPoolStage


class Stages(dict[str, Stage]):
    """Every stage by its id; one that two rows need is there once."""

    def add(self, spec: Stage) -> str:
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
        if isinstance(spec, UnionPoolStage):
            return all(self._has_all(outer, part.pool) for part in spec.parts)
        return isinstance(spec, SubsetPoolStage | SelectedPoolStage) and self._has_all(outer, spec.pool)

    def _parts(self, pool: str) -> tuple[UnionPart, ...]:
        spec = self[pool]
        return spec.parts if isinstance(spec, UnionPoolStage) else ()


def rows_of(stages: Mapping[str, Stage], pool_id: str) -> int | None:
    """How many images a pool has or will have; None where that is not known before it is made."""
    match stages[pool_id]:
        case GeneratedPoolStage(count=count) | SubsetPoolStage(count=count):
            return count
        case UnionPoolStage(parts=parts):
            counts = [rows_of(stages, part.pool) for part in parts]
            return None if None in counts else sum(count for count in counts if count is not None)
        case IngestedPoolStage(source=source, split=split):
            return planned_rows(source, split)
        case SelectedPoolStage() as selected:
            return _selected_rows(stages, selected)
    return None


def _selected_rows(stages: Mapping[str, Stage], spec: SelectedPoolStage) -> int | None:
    """Where the classes come in turn, it is known how many images each has."""
    parent = stages[spec.pool]
    if not isinstance(parent, GeneratedPoolStage):
        return None
    whole, rest = divmod(parent.count, spec.classes)
    return sum(spec.kept(whole + (label < rest)) for label in range(spec.classes))
