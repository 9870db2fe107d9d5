"""The stages that are planned so far."""

from collections.abc import Mapping
from typing import cast

from robustprune.core.stage import Stage
from robustprune.images.pool import PoolStage


class Stages(dict[str, Stage]):
    """Every stage by its id; one that two rows need is there once."""

    def add(self, spec: Stage) -> str:
        """Put a stage in, where it is not there yet, and return its id."""
        stage_id = spec.id
        self.setdefault(stage_id, spec)
        return stage_id

    def share_images(self, one: str, other: str) -> bool:
        """Return True if two pools are sure to share images; whether files do is not known before they are read."""
        if self._has_all(one, other) or self._has_all(other, one):
            return True
        pairs = [(part, other) for part in self._pool(one).members] + [
            (one, part) for part in self._pool(other).members
        ]
        return any(self.share_images(*pair) for pair in pairs)

    def _has_all(self, outer: str, inner: str) -> bool:
        """Return True if every image of ``inner`` is sure to be in ``outer``."""
        pool = self._pool(inner)
        if outer == inner or any(self._has_all(part, inner) for part in self._pool(outer).members):
            return True
        if pool.members:
            return all(self._has_all(outer, part) for part in pool.members)
        return pool.parent is not None and self._has_all(outer, pool.parent)

    def _pool(self, pool_id: str) -> PoolStage:
        return cast(PoolStage, self[pool_id])


def rows_of(stages: Mapping[str, Stage], pool_id: str) -> int | None:
    """Return how many images a pool has or will have; None where that is not known before it is made."""
    return cast(PoolStage, stages[pool_id]).planned_count(stages)
