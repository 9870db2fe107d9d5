"""TRADES (Zhang et al. 2019, https://arxiv.org/abs/1901.08573) as Wang et al. (2023) train it."""

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

DEFINITION = {"training.recipes.trades": 1}


L2_START_SCALE = 0.001  # standard deviation of the attack's start in L2, whatever the radius


@recipe("trades")
class TradesRecipe(MultiStepRecipe):
    """TRADES with synthetic data as Wang et al. (2023) train it."""

    recipe: Literal["trades"] = Field("trades", description="the recipe's own name")
    beta: float = Field(5.0, ge=0, description="TRADES' weight of the robust term")

    @property
    def updates_of_image(self) -> int:
        """Times that a step's loss looks at each image: as it is, and attacked."""
        return 2

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
        """See ``Recipe.losses``. The attack's prediction of the image is that of the loss, detached."""
        from torch.nn import functional as F

        from robustprune.training.losses import batch_loss, learnt_from, trades_losses

        assert threat is not None
        natural = model(images)
        log_natural = F.log_softmax(natural.detach().float(), dim=1)
        attacked = self.attack(model, images, labels, epsilon, noise, threat=threat, log_natural=log_natural)
        attacked, easy = learnt_from(model, images, attacked, labels, online)
        adversarial = model(attacked)
        losses = trades_losses(natural, adversarial, labels, beta=self.beta, label_smoothing=self.label_smoothing)
        return batch_loss(losses, adversarial, labels, easy)

    def attack(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        epsilon: Tensor,
        noise: BatchNoise,
        *,
        threat: ThreatModel,
        log_natural: Tensor,
    ) -> Tensor:
        """Return the attacked images (N, C, H, W). BatchNorm uses batch statistics, but its running ones stay."""
        from robustprune.attacks.norms import norm_named
        from robustprune.attacks.pgd import pgd
        from robustprune.networks.batchnorm import frozen_statistics
        from robustprune.training.losses import divergence_objective, random_start

        norm, radius = norm_named(threat.norm), epsilon.abs()
        in_l2 = norm.name == "L2"
        start = L2_START_SCALE * noise.normal(*images.shape[1:]) if in_l2 else random_start(norm, images, radius, noise)
        with frozen_statistics(model):
            return pgd(
                model,
                images,
                radius=radius,
                step_size=radius * float(self.step_size / threat.epsilon),
                steps=self.attack_steps,
                objective=partial(
                    divergence_objective, log_natural=log_natural, labels=labels, towards_label=epsilon < 0
                ),
                norm=norm,
                start=start,
                clip_start=not in_l2,
            )
