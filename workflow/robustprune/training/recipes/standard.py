"""Training on clean images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from robustprune.training.recipes.base import Recipe, recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustprune.core.randomness import BatchNoise
    from robustprune.core.settings import ThreatModel
    from robustprune.training.losses import BatchLoss
    from robustprune.training.online import OnlinePuma

DEFINITION = {"training.recipes.standard": 1}


@recipe("standard")
class StandardRecipe(Recipe):
    """Training on clean images, by cross-entropy; radii are not used."""

    recipe: Literal["standard"] = Field("standard", description="the recipe's own name")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the label spread over all classes")

    def losses(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        epsilon: Tensor,
        noise: BatchNoise,
        *,
        threat: ThreatModel | None,
        online: OnlinePuma | None,
    ) -> BatchLoss:
        """See ``Recipe.losses``; radii and noise are not used."""
        from robustprune.training.losses import batch_loss, cross_entropy

        logits = model(images)
        return batch_loss(cross_entropy(logits, labels, label_smoothing=self.label_smoothing), logits, labels)
