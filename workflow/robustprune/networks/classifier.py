"""Base class of the stages that leave a classifier behind."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from robustprune.core.declarations import Named
from robustprune.core.stage import ImageShape, Stage
from robustprune.networks.architecture import ARCHITECTURES

if TYPE_CHECKING:
    from torch import nn


class ClassifierStage(Stage):
    """A classifier: trained here or imported. Readers of its directory need no more than this."""

    kind: Literal["models"] = "models"
    architecture: Annotated[str, Named(ARCHITECTURES)]
    classes: int
    image_shape: ImageShape
    imported: ClassVar[bool] = False  # True for one that was trained elsewhere

    def prepared(self, network: "nn.Module") -> "nn.Module":
        """Return a fresh network of the architecture as this classifier uses it."""
        return network
