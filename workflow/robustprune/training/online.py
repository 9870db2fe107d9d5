"""PUMA without margins measured beforehand: each batch's are taken along its own attack (Section 5; papers.md, P8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field, model_validator

from robustprune.core.settings import Exact, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn


DEFINITION = {"training.online": 1}


class Moved(NamedTuple):
    """Images that are learnt from in place of the attacked ones.

    Attributes:
        images: (N, C, H, W) float32 in [0, 1]: at the images' margin along the attack.
        margin: (N,) float32 in [-1, 1], that margin in units of the radius.
        easy: (N,) bool, whether the image is still right at the threshold, so that pruning drops it.
    """

    images: Tensor
    margin: Tensor
    easy: Tensor


class OnlinePuma(Settings):
    """PUMA by the margins of the model in training (PUMA, Section 5)."""

    threshold: Exact | None = Field(
        None, gt=0, description="margin from which images are dropped, in units of epsilon (26/8); null drops none"
    )
    warm_up_epochs: int = Field(0, ge=0, description="epochs before images are dropped, as the authors suggest")
    bisection_steps: int = Field(8, ge=0, description="halvings of [-epsilon, epsilon] on the way to the margin")

    @model_validator(mode="after")
    def _warm_up_ends_in_pruning(self) -> OnlinePuma:
        if self.warm_up_epochs and self.threshold is None:
            raise ValueError(
                f"warm_up_epochs = {self.warm_up_epochs} needs a threshold, as without one no image is dropped"
            )
        return self

    @property
    def forwards(self) -> int:
        """Forward passes of an image in a step: the bisection's, both ends and the threshold."""
        return self.bisection_steps + 2 + (self.threshold is not None)

    def moved(self, model: nn.Module, images: Tensor, attacked: Tensor, labels: Tensor) -> Moved:
        """Bring each attacked image back to the margin of the model as it is (PUMA, Eq. 4).

        On the segment x + m (x' - x), m in [-1, 1], the largest m at which the model is right is searched by bisection,
        as if there were one border: -1 where it is wrong there, 1 where it is right there. BatchNorm uses batch
        statistics, as in the attack, and its running ones stay.

        Args:
            model: the network in training, in train mode.
            images: (N, C, H, W) float32 in [0, 1].
            attacked: (N, C, H, W) float32, at the images' full radius.
            labels: (N,) int64.
        """
        import torch

        from robustprune.attacks.norms import per_pixel
        from robustprune.networks.batchnorm import frozen_statistics

        def at(margin: Tensor | float) -> Tensor:
            share = per_pixel(margin, images) if isinstance(margin, torch.Tensor) else margin
            return (images + share * (attacked - images)).clamp(0, 1)

        def right(margin: Tensor | float) -> Tensor:
            return torch.as_tensor(model(at(margin)).argmax(1) == labels)

        with torch.no_grad(), frozen_statistics(model):
            low = torch.full((len(images),), -1.0, device=images.device)
            high = torch.ones_like(low)
            ends = right(-1.0), right(1.0)
            for _ in range(self.bisection_steps):
                middle = (low + high) / 2
                inside = right(middle)
                low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
            margin = low.masked_fill(~ends[0], -1.0).masked_fill(
                ends[1], 1.0
            )  # a number in ``where`` waits for the GPU
            never = torch.zeros_like(ends[0])
            easy = never if self.threshold is None else right(float(self.threshold))
            return Moved(at(margin), margin, easy)
