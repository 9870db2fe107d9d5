"""Ways to measure an image's distance to the decision boundary, each declared in a file of this folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import Field

from robustprune.core.declarations import Declarations, Named, OneOf
from robustprune.core.settings import Settings

if TYPE_CHECKING:
    from fractions import Fraction

    from torch import Tensor

    from robustprune.attacks.norms import NormGeometry
    from robustprune.attacks.walk import Crossing, Walk
    from robustprune.networks.architecture import Classifier

MARGIN_METHODS: Declarations[type[MarginMethod]] = Declarations("margin_method", "robustprune.attacks")
MarginMethodName = Annotated[str, Named(MARGIN_METHODS)]

BisectionSteps = Annotated[
    int,
    Field(
        ge=0,
        le=23,  # a share of a segment is a float32: below 2^-23 there is nothing between two of them to look at
        description="halvings of the segment that crosses the boundary; interpolation needs fewer evaluations",
    ),
]

AnyMethodClass = TypeVar("AnyMethodClass", bound="type[MarginMethod]")


def margin_method(name: str) -> Callable[[AnyMethodClass], AnyMethodClass]:
    """Declare a way to measure margins by the class of its settings."""

    def declare(method: AnyMethodClass) -> AnyMethodClass:
        MARGIN_METHODS.declare(name, method)
        return method

    return declare


class MarginMethod(Settings, ABC):
    """Settings of a walk over the decision boundary, which know how to do it."""

    method: str

    if TYPE_CHECKING:  # fields of each method, in its own order
        bisection_steps: BisectionSteps

        @property
        def negative(self) -> str:
            """Margin of a misclassified image: targeted, nearest or unsigned; a field or a property of each method."""

    @property
    @abstractmethod
    def passes(self) -> tuple[int, int]:
        """Forward passes and gradients of an image, for cost estimates: at most, or what is usual."""

    @property
    def exhaustive(self) -> MarginMethod:
        """The same without heuristics that save time; itself where it has none."""
        return self

    @property
    def reach(self) -> Fraction | None:
        """The largest margin that can be found; None where there is no such limit."""
        return None

    @abstractmethod
    def walk(self, model: Classifier, images: Tensor, logits: Tensor, crossing: Crossing, norm: NormGeometry) -> Walk:
        """Return the walk from some images over the boundary.

        Args:
            model: gives (N, K) logits.
            images: (N, C, H, W) float32 in [0, 1].
            logits: (N, K) of them.
            crossing: which boundary is to be crossed.
            norm: the norm of the distance.
        """


AnyMarginMethod = Annotated[MarginMethod, OneOf(MARGIN_METHODS, "method")]
