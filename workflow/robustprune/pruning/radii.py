"""With what radius each image is attacked: one function a rule.

To add one: write ``def name(margins, epsilon) -> radii`` here, put it into ``RADIUS_RULES``, and its name into
``settings.RadiusRule``.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from robustprune.settings import RadiusRule

DEFINITION = 1

Radii = npt.NDArray[np.float32]


def constant(margins: Radii, epsilon: float) -> Radii:
    """Every image at ``epsilon``."""
    return np.full(len(margins), epsilon, dtype=np.float32)


def margin(margins: Radii, epsilon: float) -> Radii:
    """The margin, clamped to [-epsilon, epsilon] (PUMA, Eq. 2); negative means anti-adversarial."""
    return np.clip(margins, -epsilon, epsilon).astype(np.float32)


RADIUS_RULES: dict[RadiusRule, Callable[[Radii, float], Radii]] = {"constant": constant, "margin": margin}
"""Each takes (N,) margins and epsilon and returns (N,) signed float32 radii."""
