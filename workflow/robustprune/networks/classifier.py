"""Base class of the stages that leave a classifier behind."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from robustprune.core.declarations import Named
from robustprune.core.settings import Precision
from robustprune.core.stage import ImageShape, Stage
from robustprune.networks.architecture import ARCHITECTURES

if TYPE_CHECKING:
    from torch import nn

    from robustprune.planning.plan import Plan


class ClassifierStage(Stage):
    """A classifier: trained here or imported. Readers of its directory need no more than this."""

    sentence = "a classifier, trained on whole pools or on what a manifest keeps of them"
    kind: Literal["models"] = "models"
    architecture: Annotated[str, Named(ARCHITECTURES)]
    classes: int
    image_shape: ImageShape
    imported: ClassVar[bool] = False  # True for one that was trained elsewhere

    def network(self, precision: Precision = "float32") -> str:
        """Return what decides how fast the network is, in words."""
        shape = "x".join(map(str, self.image_shape))
        words = f"{self.architecture}, {self.classes} classes, {shape}"
        return words if precision == "float32" else f"{words}, {precision}"

    def prepared(self, network: "nn.Module") -> "nn.Module":
        """Return a fresh network of the architecture as this classifier uses it."""
        return network


def network_behind(plan: "Plan", model: str) -> str:
    """Return the name of a model's network, for what computes with it in float32."""
    stage = plan.stages[model]
    assert isinstance(stage, ClassifierStage)
    return stage.network()
