"""Building a network by name."""

from typing import Protocol

from torch import Tensor, nn

from robustprune.networks.architecture import ARCHITECTURES


class Classifier(Protocol):
    """(N, C, H, W) float32 in [0, 1] to (N, classes) logits; any normalisation is inside."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of a batch."""


def build_model(architecture: str, *, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build a freshly initialised network, drawn from torch's global generator.

    Args:
        architecture: name of a declared architecture.
        image_shape: channels, height, width.
        classes: number of logits.

    Raises:
        ValueError: for an unknown architecture.
    """
    return ARCHITECTURES[architecture](image_shape, classes)
