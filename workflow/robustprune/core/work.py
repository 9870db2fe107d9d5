"""How often images go through a network in a stage, counted from its settings; docs/evaluation.md has the formulas.

Where a number depends on what will be found, it is the most there can be, and for DeepFool what is usual.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace


class UnknownSizeError(Exception):
    """The size of something that a stage handles is not known before another stage has run."""


FLOAT_BYTES = 4


def weights_bytes(network: str, parameters: Mapping[str, int]) -> int:
    """Return the size of a network's weights. Raises UnknownSizeError for one that was not calibrated."""
    if network not in parameters:
        raise UnknownSizeError(network)
    return parameters[network] * FLOAT_BYTES


def bytes_of_image(image_shape: tuple[int, int, int]) -> int:
    """Return the size of an image's pixels and label."""
    return math.prod(image_shape) + 2


@dataclass(frozen=True)
class Work:
    """Images through a network."""

    network: str = ""  # empty where nothing goes through any
    forwards: int = 0  # images through the network alone
    gradients: int = 0  # images through it and back to the pixels, as attacks and margins need
    updates: int = 0  # images through it and back to the weights, as learning needs

    @property
    def passes(self) -> int:
        """Images that go through, in any way."""
        return self.forwards + self.gradients + self.updates

    def __mul__(self, times: int) -> "Work":
        counts = {name: getattr(self, name) * times for name in ("forwards", "gradients", "updates")}
        return replace(self, **counts)

    def __add__(self, other: "Work") -> "Work":
        counts = {name: getattr(self, name) + getattr(other, name) for name in ("forwards", "gradients", "updates")}
        return replace(self, **counts)
