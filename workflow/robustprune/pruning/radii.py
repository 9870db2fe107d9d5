"""With what radius each image is attacked: one function a rule.

To add one: write ``def name(measured, settings) -> radii`` here, put it into ``RADIUS_RULES``, and its name into
``settings.RadiusRule``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from robustprune.pruning.settings import RadiusRule, RadiusSettings

DEFINITION = {"pruning.radii": 2}

WEAK = 1 / 8  # of epsilon: 1/255 at 8/255 (PUMA, Table 7)
NEVER_RIGHT = 1.0  # the difficulty of an image that was misclassified in every epoch

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """What is known of the images whose radius is wanted.

    Attributes:
        count: how many they are.
        margin: (N,) signed margins; empty for a rule that needs none.
        difficulty: (N,) share of epochs misclassified, CD; empty for a rule that needs none.
    """

    count: int
    margin: Values
    difficulty: Values


def constant(measured: Measured, settings: RadiusSettings) -> Values:
    """Every image at epsilon."""
    return np.full(measured.count, float(settings.epsilon), dtype=np.float32)


def margin(measured: Measured, settings: RadiusSettings) -> Values:
    """The margin less the gap, clamped to [-epsilon, epsilon] (PUMA, Eq. 2 and 3); negative is anti-adversarial."""
    epsilon = float(settings.epsilon)
    return np.asarray(np.clip(measured.margin - np.float32(settings.gap), -epsilon, epsilon))


def weak_if_difficult(measured: Measured, settings: RadiusSettings) -> Values:
    """An eighth of epsilon where the image was never right, else epsilon (PUMA, Table 7)."""
    full = constant(measured, settings)
    return np.where(measured.difficulty >= NEVER_RIGHT, np.float32(WEAK) * full, full)


def margin_if_difficult(measured: Measured, settings: RadiusSettings) -> Values:
    """By the margin where the image was never right, else epsilon (PUMA, Table 7)."""
    return np.where(measured.difficulty >= NEVER_RIGHT, margin(measured, settings), constant(measured, settings))


RADIUS_RULES: dict[RadiusRule, Callable[[Measured, RadiusSettings], Values]] = {
    "constant": constant,
    "margin": margin,
    "weak_if_difficult": weak_if_difficult,
    "margin_if_difficult": margin_if_difficult,
}
"""Each gives (N,) signed float32 radii."""
