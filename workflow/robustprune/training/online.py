"""PUMA without margins measured beforehand: each batch's are taken along its own attack (Section 5; papers.md, P8)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustprune.attacks.norms import per_pixel
from robustprune.networks.batchnorm import frozen_statistics
from robustprune.pruning.settings import OnlinePuma

DEFINITION = {"training.online": 1}


class Moved(NamedTuple):
    """What is learnt from in place of the attacked images.

    Attributes:
        images: (N, C, H, W) float32 in [0, 1]: at the images' margin along the attack.
        margin: (N,) float32 in [-1, 1], that margin in units of the radius.
        easy: (N,) bool, whether the image is still right at the threshold, so that pruning drops it.
    """

    images: Tensor
    margin: Tensor
    easy: Tensor


@torch.no_grad()
def move_to_margins(
    model: nn.Module, images: Tensor, attacked: Tensor, labels: Tensor, *, settings: OnlinePuma
) -> Moved:
    """Bring each attacked image back to the margin of the model as it is (PUMA, Eq. 4).

    On the segment x + m (x' - x), m in [-1, 1], the largest m at which the model is right is found by bisection, as if
    there were one border: -1 where it is wrong there, 1 where it is right there. BatchNorm uses batch statistics, as
    in the attack, and its running ones stay.

    Args:
        model: the network in training, in train mode.
        images: (N, C, H, W) float32 in [0, 1].
        attacked: (N, C, H, W) float32, at the images' full radius.
        labels: (N,) int64.
        settings: halvings and threshold.
    """

    def at(margin: Tensor | float) -> Tensor:
        share = per_pixel(margin, images) if isinstance(margin, Tensor) else margin
        return (images + share * (attacked - images)).clamp(0, 1)

    def right(margin: Tensor | float) -> Tensor:
        return torch.as_tensor(model(at(margin)).argmax(1) == labels)

    with frozen_statistics(model):
        low = torch.full((len(images),), -1.0, device=images.device)
        high = torch.ones_like(low)
        ends = right(-1.0), right(1.0)
        for _ in range(settings.bisection_steps):
            middle = (low + high) / 2
            inside = right(middle)
            low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
        margin = low.masked_fill(~ends[0], -1.0).masked_fill(ends[1], 1.0)  # a number in ``where`` waits for the GPU
        never = torch.zeros_like(ends[0])
        easy = never if settings.threshold is None else right(float(settings.threshold))
    return Moved(at(margin), margin, easy)
