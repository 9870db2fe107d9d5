"""Building a network by name."""

import importlib
from typing import Protocol, cast, get_args

from torch import Tensor, nn

from robustprune.networks.normalization import Normalization
from robustprune.networks.settings import Architecture, NormalizationSettings

ARCHITECTURES = get_args(Architecture)


class Classifier(Protocol):
    """(N, C, H, W) float32 in [0, 1] to (N, classes) logits; any normalisation is inside."""

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of a batch."""


def build_model(
    architecture: str,
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    normalization: NormalizationSettings | None = None,
) -> nn.Module:
    """A freshly initialised network, drawn from torch's global generator.

    Args:
        architecture: the name of a module of this package, with ``build(image_shape, classes)``.
        image_shape: channels, height, width.
        classes: number of logits.
        normalization: of the input, in place of the architecture's own.

    Raises:
        ValueError: for an unknown architecture, or one that has no place for a normalisation.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture = {architecture!r} is not one of {', '.join(ARCHITECTURES)}")
    module = importlib.import_module(f"robustprune.networks.{architecture}")
    network = cast(nn.Module, module.build(image_shape, classes))
    if normalization is not None:
        if not hasattr(network, "normalize"):
            raise ValueError(f"{architecture} has no place for a normalisation of its input")
        network.normalize = Normalization(normalization.mean, normalization.std)
    return network
