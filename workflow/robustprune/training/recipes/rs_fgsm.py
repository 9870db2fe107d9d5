"""RS-FGSM: one gradient step from a random start (Wong et al. 2020), https://arxiv.org/abs/2001.03994."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from robustprune.training.recipes.base import AdversarialRecipe, recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustprune.core.randomness import BatchNoise
    from robustprune.core.settings import ThreatModel
    from robustprune.training.losses import BatchLoss
    from robustprune.training.online import OnlinePuma

DEFINITION = {"training.recipes.rs_fgsm": 1}


@recipe("rs_fgsm")
class RsFgsmRecipe(AdversarialRecipe):
    """One gradient step from a random start (Wong et al. 2020), as Kaufmann et al. train."""

    recipe: Literal["rs_fgsm"] = Field("rs_fgsm", description="the recipe's own name")
    step_scale: float = Field(1.25, gt=0, description="the attack's step, in units of a sample's radius")
    clip_start: bool = Field(
        description="whether the random start is clipped to the pixel range before the gradient is taken (Wong et al.: "
        "true for CIFAR-10, false for MNIST)"
    )
    synthetic_fraction: float = Field(
        0.0, ge=0, lt=1, description="share of synthetic images in a batch (rounded down)"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the label spread over all classes")
    averaging_decay: float = Field(0.0, ge=0, lt=1, description="decay of the weight average; 0 for no averaging")
    statistics_momentum: float = Field(0.1, gt=0, le=1, description="of BatchNorm's running statistics")
    statistics_from_first_batch: bool = Field(
        False, description="whether BatchNorm's running statistics begin as those of the first batch, not as 0 and 1"
    )
    validation_held_out: bool = Field(False, description="whether they are kept out of training")

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
        """See ``Recipe.losses``. BatchNorm's running statistics move in the attack's pass, too, as Wong's."""
        from robustprune.attacks.norms import norm_named
        from robustprune.attacks.pgd import pgd
        from robustprune.training.losses import label_objective, loss_at, random_start

        assert threat is not None
        norm, radius = norm_named(threat.norm), epsilon.abs()
        attacked = pgd(
            model,
            images,
            radius=radius,
            step_size=radius * self.step_scale,
            steps=1,
            objective=partial(label_objective, labels=labels, towards_label=epsilon < 0),
            norm=norm,
            start=random_start(norm, images, radius, noise),
            clip_start=self.clip_start,
        )
        return loss_at(model, images, attacked, labels, online=online, label_smoothing=self.label_smoothing)
