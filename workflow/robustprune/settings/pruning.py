"""Settings of pruning: which images are dropped, and with what radius the rest is attacked."""

from typing import Literal

from pydantic import Field

from robustprune.settings.base import Settings

Strategy = Literal["none", "random", "puma"]
"""Which images are dropped; the functions are in ``pruning.strategies``."""

RadiusRule = Literal["constant", "margin"]
"""With what radius each image is attacked; the functions are in ``pruning.radii``."""


class PruningSettings(Settings):
    """How much is dropped, where a table's row does not say."""

    ratio: float = Field(0.2, ge=0, lt=1, description="share of the training images dropped")
