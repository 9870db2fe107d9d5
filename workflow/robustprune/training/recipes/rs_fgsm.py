"""RS-FGSM: one gradient step from a random start (Wong et al. 2020), https://arxiv.org/abs/2001.03994."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from robustprune.attacks.norms import norm_named
from robustprune.attacks.pgd import pgd
from robustprune.core.randomness import BatchNoise
from robustprune.core.settings import ThreatModel
from robustprune.pruning.settings import OnlinePuma
from robustprune.training.losses import label_objective
from robustprune.training.recipes.base import BatchLoss, loss_at, random_start
from robustprune.training.settings import RsFgsmRecipe

DEFINITION = {"training.recipes.rs_fgsm": 1}


@dataclass(frozen=True)
class RsFgsm:
    """Cross-entropy at the end of one long step."""

    settings: RsFgsmRecipe
    threat: ThreatModel
    online: OnlinePuma | None = None

    def losses(self, model: nn.Module, images: Tensor, labels: Tensor, epsilon: Tensor, noise: BatchNoise) -> BatchLoss:
        """See ``TrainingRecipe.losses``. BatchNorm's running statistics move in the attack's pass, too, as Wong's."""
        norm, radius = norm_named(self.threat.norm), epsilon.abs()
        attacked = pgd(
            model,
            images,
            radius=radius,
            step_size=radius * self.settings.step_scale,
            steps=1,
            objective=partial(label_objective, labels=labels, towards_label=epsilon < 0),
            norm=norm,
            start=random_start(norm, images, radius, noise),
            clip_start=self.settings.clip_start,
        )
        smoothing = self.settings.label_smoothing
        return loss_at(model, images, attacked, labels, online=self.online, label_smoothing=smoothing)
