"""Adversarial training by PGD (Madry et al. 2018), https://arxiv.org/abs/1706.06083."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from robustprune.attacks.norms import norm_named
from robustprune.attacks.pgd import pgd
from robustprune.core.randomness import BatchNoise
from robustprune.core.settings import ThreatModel
from robustprune.networks.batchnorm import frozen_statistics
from robustprune.pruning.settings import OnlinePuma
from robustprune.training.losses import label_objective
from robustprune.training.recipes.base import BatchLoss, loss_at, random_start
from robustprune.training.settings import PgdAtRecipe

DEFINITION = {"training.recipes.pgd_at": 1}


@dataclass(frozen=True)
class PgdAt:
    """Cross-entropy at the end of PGD on the cross-entropy."""

    settings: PgdAtRecipe
    threat: ThreatModel
    online: OnlinePuma | None = None

    def losses(self, model: nn.Module, images: Tensor, labels: Tensor, epsilon: Tensor, noise: BatchNoise) -> BatchLoss:
        """See ``TrainingRecipe.losses``. BatchNorm's running statistics stay during the attack, as in TRADES."""
        norm, radius = norm_named(self.threat.norm), epsilon.abs()
        with frozen_statistics(model):
            attacked = pgd(
                model,
                images,
                radius=radius,
                step_size=radius * float(self.settings.step_size / self.threat.epsilon),
                steps=self.settings.attack_steps,
                objective=partial(label_objective, labels=labels, towards_label=epsilon < 0),
                norm=norm,
                start=random_start(norm, images, radius, noise),
            )
        smoothing = self.settings.label_smoothing
        return loss_at(model, images, attacked, labels, online=self.online, label_smoothing=smoothing)
