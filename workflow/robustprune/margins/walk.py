"""Many images on their way over a decision boundary: where each is, and what a method must tell of a step."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustprune.attacks.margin_loss import best_other
from robustprune.models.registry import Classifier

DEFINITION = 1

SIZES = 8  # of batches between one power of 2 and the next


@dataclass(frozen=True)
class Crossing:
    """For each image the class it is led out of, or into.

    Attributes:
        classes: (N,) int64.
        into: (N,) bool, whether the image is led into its class.
    """

    classes: Tensor
    into: Tensor

    def __getitem__(self, rows: Tensor) -> "Crossing":
        """The crossings of some of the images."""
        return Crossing(self.classes[rows], self.into[rows])

    def gap(self, logits: Tensor) -> Tensor:
        """(N,): the difference of logits, (N, K), that is below 0 beyond the boundary and not below 0 before it."""
        own = logits.gather(1, self.classes[:, None]).squeeze(1)
        lead = own - best_other(logits, self.classes)
        return torch.where(self.into, -lead, lead)


class Walk(ABC):
    """A chunk of images, each led over its boundary step by step.

    Attributes:
        points: (N, C, H, W) float32 in [0, 1], where each image is.
        gaps: (N,) float32, the gap there, below 0 where the boundary is crossed.
        steps: (N,) int64, steps made.
    """

    def __init__(
        self, model: Classifier, images: Tensor, logits: Tensor, crossing: Crossing, *, max_steps: int
    ) -> None:
        self.model, self.crossing, self.max_steps = model, crossing, max_steps
        self.points, self.gaps, self.steps = images.clone(), crossing.gap(logits), torch.zeros_like(crossing.classes)

    @abstractmethod
    def advance(self, rows: Tensor) -> Tensor:
        """Take the images ``rows``, (n,) int64, one step on; (n,) bool, which are beyond or have made all steps."""

    def finished(self, rows: Tensor) -> Tensor:
        """(n,) bool: which of the images are beyond or have made all steps."""
        return (self.gaps[rows] < 0) | (self.steps[rows] >= self.max_steps)


def in_few_sizes(model: nn.Module) -> Classifier:
    """The model, in eval mode, that is only given batches of few sizes: others are filled up with black images.

    On a CPU torch compiles convolutions for every size of a batch, and keeps what it compiled for the last few dozen
    sizes. Those images that are still on their way are of all numbers, and for the CNN of MNIST a new one takes 4 ms,
    as long as 60 images.
    """

    def logits(images: Tensor) -> Tensor:
        count = len(images)
        unit = max(2 ** ((count - 1).bit_length() - 1) // SIZES, 1)
        filling = images.new_zeros(-count % unit, *images.shape[1:])
        found: Tensor = model(torch.cat([images, filling]))
        return found[:count]

    return logits


@torch.no_grad()
def logits_at(model: Classifier, points: Tensor, *, batch_size: int | None = None) -> Tensor:
    """(N, K) float32 logits without a graph, ``batch_size`` points at a time, or all at once."""
    return torch.cat([model(part).float() for part in torch.split(points, batch_size or max(len(points), 1))])


@contextmanager
def gradients_of_input_only(model: nn.Module) -> Iterator[None]:
    """Meanwhile no gradient is prepared for the parameters; afterwards each asks for one where it did before."""
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
