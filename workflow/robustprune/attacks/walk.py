"""Many images on their way over a decision boundary: where each is, and what a method must tell of a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from robustprune.attacks.margin_loss import best_other

if TYPE_CHECKING:
    from robustprune.networks.architecture import Classifier

Gap = Callable[[Tensor, Tensor], Tensor]
"""(n,) rows and (n,) shares of their segments to the (n,) gaps there, below 0 beyond the boundary."""


def narrow(gap: Gap, near_gap: Tensor, far_gap: Tensor, *, halvings: int, batch_size: int) -> Tensor:
    """Find on each segment a point beyond the boundary and at most 2^-``halvings`` of the segment behind one before it.

    Each next point is where the gap would be 0 if it were linear between the two ends, held half the wanted width away
    from both, so that a good guess ends the search; after a guess that did not halve the segment, its middle. This
    takes about 4 evaluations where plain halving takes 10, and never more than twice as many. Where a segment crosses
    several times, one of the crossings is found.

    Args:
        gap: the function that changes sign.
        near_gap: (N,) its values, not below 0, at the near ends, share 0.
        far_gap: (N,) below 0, at the far ends, share 1.
        halvings: logarithm of the wanted width, at most 23, as shares are float32; 0 leaves the far ends.
        batch_size: segments at once.

    Returns:
        (N,) float32 shares of the segments at which ``gap`` was below 0.
    """
    width = 2.0**-halvings
    near, far = torch.zeros_like(near_gap), torch.ones_like(far_gap)
    near_gap, far_gap = near_gap.clone(), far_gap.clone()
    halved = torch.ones_like(near_gap, dtype=torch.bool)

    def advance(rows: Tensor) -> Tensor:
        a, b, above, below = near[rows], far[rows], near_gap[rows], far_gap[rows]
        guess = a + (b - a) * above / (above - below)
        share = torch.where(halved[rows], guess.clamp(a + width / 2, b - width / 2), (a + b) / 2)
        value = gap(rows, share)
        beyond = value < 0
        near[rows], near_gap[rows] = torch.where(beyond, a, share), torch.where(beyond, above, value)
        far[rows], far_gap[rows] = torch.where(beyond, share, b), torch.where(beyond, value, below)
        halved[rows] = far[rows] - near[rows] <= (b - a) / 2
        return far[rows] - near[rows] <= width

    if halvings:
        run_active(len(near), advance, batch_size=batch_size, device=near.device)
    return far


def run_active(
    count: int, advance: Callable[[Tensor], Tensor], *, batch_size: int, device: torch.device | None = None
) -> None:
    """Call ``advance`` on up to ``batch_size`` rows at a time until each of 0 ... ``count`` - 1 is finished.

    The batch is full until no row waits, however unequal the searches are. Rows enter in order, so the calls depend on
    nothing but the arguments and the answers.

    Args:
        count: number of searches.
        advance: takes (n,) int64 rows one step further and returns (n,) bool, which of them are finished.
        batch_size: rows that are active at once.
        device: where the rows are counted; that of the tensors they are rows of.
    """
    active, waiting = torch.arange(0, device=device), 0
    while waiting < count or len(active):
        entering = min(batch_size - len(active), count - waiting)
        active = torch.cat([active, torch.arange(waiting, waiting + entering, device=device)])
        waiting += entering
        active = active[~advance(active)]


DEFINITION = {"margins.active_set": 1, "margins.bisection": 2, "margins.walk": 1}

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

    def __getitem__(self, rows: Tensor) -> Crossing:
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
