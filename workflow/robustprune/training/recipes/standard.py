"""Training on clean images."""

from dataclasses import dataclass

from torch import Tensor, nn

from robustprune.core.randomness import BatchNoise
from robustprune.training.losses import cross_entropy
from robustprune.training.recipes.base import BatchLoss, batch_loss
from robustprune.training.settings import StandardRecipe

DEFINITION = {"training.recipes.standard": 1}


@dataclass(frozen=True)
class Standard:
    """Cross-entropy at the images themselves."""

    settings: StandardRecipe

    def losses(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        epsilon: Tensor,  # noqa: ARG002  # a recipe's
        noise: BatchNoise,  # noqa: ARG002  # signature
    ) -> BatchLoss:
        """See ``TrainingRecipe.losses``; ``epsilon`` and ``noise`` are not used."""
        logits = model(images)
        return batch_loss(cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing), logits, labels)
