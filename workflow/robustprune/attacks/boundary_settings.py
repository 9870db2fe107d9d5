"""Settings of PUMA's Algorithm 1."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from robustprune.attacks.margin_method import BisectionSteps, MarginMethod, margin_method
from robustprune.core.settings import Radius

if TYPE_CHECKING:
    from torch import Tensor

    from robustprune.attacks.norms import NormGeometry
    from robustprune.attacks.walk import Crossing, Walk
    from robustprune.networks.architecture import Classifier


@margin_method("boundary_search")
class BoundarySearchSettings(MarginMethod):
    """PUMA's Algorithm 1: one gradient a step, however many classes there are. See papers.md, P5-P7."""

    method: Literal["boundary_search"] = Field("boundary_search", description="the method's own name")
    step_size: Radius = Field(Fraction(1, 255), gt=0, description="length of a step in the threat model's norm")
    max_steps: int = Field(
        64,
        ge=1,
        description="steps before a sample is given up; step_size times this must reach beyond the margin pruned at",
    )
    bisection_steps: BisectionSteps = 10

    @property
    def negative(self) -> Literal["targeted"]:
        """A misclassified image has minus the distance to its own class."""
        return "targeted"

    @property
    def reach(self) -> Fraction:
        """The largest margin that can be found; a larger one is infinite."""
        return self.step_size * self.max_steps

    @property
    def passes(self) -> tuple[int, int]:
        """Forward passes and gradients of an image, at most."""
        return self.bisection_steps + 1, self.max_steps

    def walk(self, model: Classifier, images: Tensor, logits: Tensor, crossing: Crossing, norm: NormGeometry) -> Walk:
        """See ``MarginMethod.walk``."""
        from robustprune.attacks.boundary_search import BoundarySearch

        return BoundarySearch(model, images, logits, crossing, settings=self, norm=norm)
