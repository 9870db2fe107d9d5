"""Settings of the scores: margins and what else is measured of a training image."""

from typing import Literal

from pydantic import Field

from robustprune.settings.base import Settings


class DeepFoolSettings(Settings):
    """DeepFool with bisection to the boundary (Moosavi-Dezfooli et al. 2016). Facts: section 3."""

    max_steps: int = Field(50, ge=1, description="linearisation steps before a sample is given up")
    overshoot: float = Field(0.02, ge=0, description="share by which a step goes beyond the linearised boundary")
    bisection_steps: int = Field(10, ge=0, description="halvings of the segment that crosses the boundary")
    negative: Literal["targeted", "nearest", "unsigned"] = Field(
        "targeted",
        description="margin of a misclassified image: targeted, minus the distance to its own class; nearest, minus "
        "the distance from the predicted class; unsigned, that distance itself",
    )
