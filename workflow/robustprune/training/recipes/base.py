"""What training asks of a recipe, and what recipes share."""

from typing import NamedTuple, Protocol

from torch import Tensor, nn

from robustprune.attacks.norms import NormGeometry
from robustprune.core.randomness import BatchNoise
from robustprune.pruning.settings import OnlinePuma
from robustprune.training.losses import cross_entropy
from robustprune.training.online import move_to_margins

DEFINITION = {"training.recipes.base": 1}


class BatchLoss(NamedTuple):
    """What a recipe makes of a batch.

    Attributes:
        losses: (N,) float32, of each sample; their mean is minimised.
        right: (N,) bool, whether the image that was learnt from (attacked, where the recipe attacks) was classified
            rightly.
        easy: (N,) bool, whether online pruning drops it; None where there is none.
    """

    losses: Tensor
    right: Tensor
    easy: Tensor | None = None


class TrainingRecipe(Protocol):
    """Attack and loss of a batch."""

    def losses(self, model: nn.Module, images: Tensor, labels: Tensor, epsilon: Tensor, noise: BatchNoise) -> BatchLoss:
        """The loss of each sample of a batch, with a graph to the model's parameters.

        Args:
            model: the network in training, in train mode.
            images: (N, C, H, W) float32 in [0, 1].
            labels: (N,) int64.
            epsilon: (N,) float32 signed radii in the threat's norm; negative ones are attacked towards the label.
            noise: the attack's starting points, drawn on the device of the images.
        """


def random_start(norm: NormGeometry, images: Tensor, radius: Tensor, noise: BatchNoise) -> Tensor:
    """(N, C, H, W): uniform in the cube for Linf, uniform on the sphere for L2 (which is where most of a ball is)."""
    shape = images.shape[1:]
    draw = noise.normal(*shape) if norm.draw == "normal" else noise.uniform(*shape)
    return norm.random_start(draw, radius)


def batch_loss(losses: Tensor, logits: Tensor, labels: Tensor, easy: Tensor | None = None) -> BatchLoss:
    """The losses, with what the logits of the images learnt from say about accuracy."""
    return BatchLoss(losses, logits.detach().argmax(1) == labels, easy)


def learnt_from(
    model: nn.Module, images: Tensor, attacked: Tensor, labels: Tensor, online: OnlinePuma | None
) -> tuple[Tensor, Tensor | None]:
    """The attacked images, brought back to their margins where those are taken online, and which are too easy."""
    if online is None:
        return attacked, None
    moved = move_to_margins(model, images, attacked, labels, settings=online)
    return moved.images, moved.easy


def loss_at(
    model: nn.Module,
    images: Tensor,
    attacked: Tensor,
    labels: Tensor,
    *,
    online: OnlinePuma | None,
    label_smoothing: float,
) -> BatchLoss:
    """The cross-entropy at the attacked images, as ``learnt_from`` has them."""
    attacked, easy = learnt_from(model, images, attacked, labels, online)
    logits = model(attacked)
    return batch_loss(cross_entropy(logits, labels, label_smoothing=label_smoothing), logits, labels, easy)
