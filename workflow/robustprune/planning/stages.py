"""The stages that are planned so far."""

from robustprune.specs import Spec


class Stages(dict[str, Spec]):
    """Every stage by its id; one that two rows need is there once."""

    def add(self, spec: Spec) -> str:
        """Put a stage in, where it is not there yet, and return its id."""
        stage_id = spec.id
        self.setdefault(stage_id, spec)
        return stage_id
