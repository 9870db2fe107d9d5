"""Radius rules: with what radius each image is attacked, one function per rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from robustprune.core.declarations import Declarations, Named
from robustprune.core.settings import Radius, Settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Values = npt.NDArray[np.float32]
    RadiusOf = Callable[["Measured", "RadiusSettings"], Values]

RADIUS_RULES: Declarations[RadiusOf] = Declarations("radius_rule", "robustprune.pruning")
RadiusRule = Annotated[str, Named(RADIUS_RULES)]
"""With what radius each image is attacked; the functions are in ``pruning.radii``."""


def radius_rule(name: str, *, reads: tuple[Literal["margin", "difficulty"], ...]) -> Callable[[RadiusOf], RadiusOf]:
    """Declare a radius rule by a function that returns (N,) signed float32 radii.

    Args:
        name: the rule's name in a row of a table.
        reads: what it needs of each image; the row's models then have it measured.
    """
    del reads  # the plan reads it as text
    return lambda function: RADIUS_RULES.declare(name, function)


def measured_for(rule: str) -> tuple[str, ...]:
    """Return what a radius rule needs of each image: ``margin``, ``difficulty``."""
    needed: tuple[str, ...] = RADIUS_RULES.facts(rule)["reads"]
    return needed


class RadiusSettings(Settings):
    """The rule of the radii and its constants, in units of the pixel range."""

    rule: RadiusRule
    epsilon: Radius = Field(description="largest radius")
    gap: Radius = Field(description="taken off each margin (PUMA, Eq. 3)")


@dataclass(frozen=True)
class Measured:
    """Measurements of the images whose radius is wanted.

    Attributes:
        count: how many they are.
        margin: (N,) signed margins; empty for a rule that does not read it.
        difficulty: (N,) share of epochs misclassified, CD; empty for a rule that does not read it.
    """

    count: int
    margin: Values
    difficulty: Values
