"""Base class of the stages that make pools."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from robustprune.core.stage import ImageShape, Stage

Stages = Mapping[str, Stage]


class PoolStage(Stage):
    """A pool of labelled images; its subclasses say where these come from."""

    sentence: ClassVar = "images with their labels: real ones brought in, generated ones drawn, or parts of other pools"
    kind: Literal["pools"] = "pools"
    dataset: str
    classes: int
    image_shape: ImageShape

    @property
    def members(self) -> tuple[str, ...]:
        """Pools whose images are all in it, and which together are the pool; empty where it is not made of others."""
        return ()

    @property
    def parent(self) -> str | None:
        """The pool that all its images are from; None where there is none."""
        return None

    def planned_count(self, stages: Stages) -> int | None:
        """Return the number of images; None where it is not known before the pool is made."""
        return None

    def planned_class_counts(self) -> tuple[int, ...] | None:
        """Return the number of images of each class; None where it is not known before the pool is made."""
        return None
