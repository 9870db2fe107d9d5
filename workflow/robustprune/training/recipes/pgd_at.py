"""Adversarial training by PGD (Madry et al. 2018), https://arxiv.org/abs/1706.06083."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from robustprune.training.recipes.base import MultiStepRecipe, recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustprune.core.randomness import BatchNoise
    from robustprune.core.settings import ThreatModel
    from robustprune.training.losses import BatchLoss
    from robustprune.training.online import OnlinePuma

DEFINITION = {"training.recipes.pgd_at": 1}


@recipe("pgd_at")
class PgdAtRecipe(MultiStepRecipe):
    """Adversarial training by PGD on the cross-entropy (Madry et al. 2018)."""

    recipe: Literal["pgd_at"] = Field("pgd_at", description="the recipe's own name")
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
        """See ``Recipe.losses``. BatchNorm's running statistics stay during the attack, as in TRADES."""
        from robustprune.attacks.norms import norm_named
        from robustprune.attacks.pgd import pgd
        from robustprune.networks.batchnorm import frozen_statistics
        from robustprune.training.losses import label_objective, loss_at, random_start

        assert threat is not None
        norm, radius = norm_named(threat.norm), epsilon.abs()
        with frozen_statistics(model):
            attacked = pgd(
                model,
                images,
                radius=radius,
                step_size=radius * float(self.step_size / threat.epsilon),
                steps=self.attack_steps,
                objective=partial(label_objective, labels=labels, towards_label=epsilon < 0),
                norm=norm,
                start=random_start(norm, images, radius, noise),
            )
        return loss_at(model, images, attacked, labels, online=online, label_smoothing=self.label_smoothing)
