"""The networks there are, each a file of this folder with a decorated function ``build``, and building one by name."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, TypeVar

from pydantic import Field

from robustprune.core.declarations import Declarations, Named
from robustprune.core.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

Build = Callable[[tuple[int, int, int], int], "nn.Module"]
ARCHITECTURES: Declarations[Build] = Declarations("architecture", "robustprune.networks")
AnyBuild = TypeVar("AnyBuild", bound=Build)
Architecture = Annotated[str, Named(ARCHITECTURES)]


def architecture(name: str, *, batchnorm: bool = True, normalization: str = "none") -> Callable[[AnyBuild], AnyBuild]:
    """Declare a network by the function that builds it.

    Args:
        name: name in ``architecture`` of the configuration.
        batchnorm: False if no image's logits depend on the others of its batch.
        normalization: what is done to the input: ``own`` (the network has constants of its own; for colour images those
            of CIFAR-10), ``possible`` (nothing, but a checkpoint may bring some), or ``none`` (there is no place for
            it).
    """

    def declare(build: AnyBuild) -> AnyBuild:
        ARCHITECTURES.declare(name, build)
        return build

    return declare


def has_batchnorm(name: str) -> bool:
    """Return True if an image's logits depend on the others of its batch in training."""
    return bool(ARCHITECTURES.facts(name).get("batchnorm", True))


def normalization_of(name: str) -> str:
    """Return what an architecture does to its input: ``own``, ``possible`` or ``none``."""
    return str(ARCHITECTURES.facts(name).get("normalization", "none"))


ArchitectureRole = Literal["similar", "wide", "widest", "fast"]
"""A network by its part in a paper, which is another one at each preset."""


class ArchitectureRoles(Settings):
    """The networks that rows ask for by their part. The defaults are the papers' own."""

    similar: Architecture = Field("preact_resnet18", description="PUMA, Figure 8: one of about as many parameters")
    wide: Architecture = Field("wrn28_10_swish", description="PUMA, Table 9 and Figure 8, and Nieth et al.")
    widest: Architecture = Field("wrn70_16_swish", description="PUMA, Table 9")
    fast: Architecture = Field("fast_preact_resnet18", description="Kaufmann et al., as Wong et al.")


class Classifier(Protocol):
    """(N, C, H, W) float32 in [0, 1] to (N, classes) logits; any normalisation is inside."""

    def __call__(self, images: "Tensor") -> "Tensor":
        """Return the logits of a batch."""


def build_model(architecture: str, *, image_shape: tuple[int, int, int], classes: int) -> "nn.Module":
    """Build a freshly initialised network, drawn from torch's global generator.

    Args:
        architecture: name of a declared architecture.
        image_shape: channels, height, width.
        classes: number of logits.

    Raises:
        ValueError: for an unknown architecture.
    """
    return ARCHITECTURES[architecture](image_shape, classes)
