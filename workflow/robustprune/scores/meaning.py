"""What a score says: the column that leads, its unit, and which end is the easy one."""

from dataclasses import dataclass
from typing import Literal

Easy = Literal["high", "low"]


@dataclass(frozen=True)
class Meaning:
    """What a score says.

    Attributes:
        column: name of the leading column, the one that is pruned by.
        unit: what a value of 1 is.
        easy: the end at which the easy images are; strategies that drop easy or difficult images go by it.
        sign: the same in words, with what a negative value means.
    """

    column: str
    unit: str
    easy: Easy
    sign: str
