"""The radius rules: with what radius each image is attacked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from robustprune.pruning.radius import radius_rule

if TYPE_CHECKING:
    from robustprune.pruning.radius import Measured, RadiusSettings

DEFINITION = {"pruning.radii": 2}

WEAK = 1 / 8  # of epsilon: 1/255 at 8/255 (PUMA, Table 7)
NEVER_RIGHT = 1.0  # the difficulty of an image that was misclassified in every epoch

Values = npt.NDArray[np.float32]


@radius_rule("constant", reads=())
def constant(measured: Measured, settings: RadiusSettings) -> Values:
    """Every image at epsilon."""
    return np.full(measured.count, float(settings.epsilon), dtype=np.float32)


@radius_rule("margin", reads=("margin",))
def margin(measured: Measured, settings: RadiusSettings) -> Values:
    """The margin less the gap, clamped to [-epsilon, epsilon] (PUMA, Eq. 2 and 3); negative is anti-adversarial."""
    epsilon = float(settings.epsilon)
    return np.asarray(np.clip(measured.margin - np.float32(settings.gap), -epsilon, epsilon))


@radius_rule("weak_if_difficult", reads=("difficulty",))
def weak_if_difficult(measured: Measured, settings: RadiusSettings) -> Values:
    """An eighth of epsilon where the image was never right, else epsilon (PUMA, Table 7)."""
    full = constant(measured, settings)
    return np.where(measured.difficulty >= NEVER_RIGHT, np.float32(WEAK) * full, full)


@radius_rule("margin_if_difficult", reads=("margin", "difficulty"))
def margin_if_difficult(measured: Measured, settings: RadiusSettings) -> Values:
    """By the margin where the image was never right, else epsilon (PUMA, Table 7)."""
    return np.where(measured.difficulty >= NEVER_RIGHT, margin(measured, settings), constant(measured, settings))
