"""TRADES (Zhang et al. 2019, https://arxiv.org/abs/1901.08573) as Wang et al. (2023) train it."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.attacks.norms import norm_named
from robustprune.attacks.pgd import pgd
from robustprune.core.randomness import BatchNoise
from robustprune.core.settings import ThreatModel
from robustprune.networks.batchnorm import frozen_statistics
from robustprune.pruning.settings import OnlinePuma
from robustprune.training.losses import divergence_objective, trades_losses
from robustprune.training.recipes.base import BatchLoss, batch_loss, learnt_from, random_start
from robustprune.training.settings import TradesRecipe

DEFINITION = {"training.recipes.trades": 1}

L2_START_SCALE = 0.001  # standard deviation of the attack's start in L2, whatever the radius


@dataclass(frozen=True)
class Trades:
    """Cross-entropy at the image, and the KL divergence to the end of PGD on that divergence."""

    settings: TradesRecipe
    threat: ThreatModel
    online: OnlinePuma | None = None

    def losses(self, model: nn.Module, images: Tensor, labels: Tensor, epsilon: Tensor, noise: BatchNoise) -> BatchLoss:
        """See ``TrainingRecipe.losses``. The attack's prediction of the image is that of the loss, detached."""
        natural = model(images)
        log_natural = F.log_softmax(natural.detach().float(), dim=1)
        attacked = self.attack(model, images, labels, epsilon, noise, log_natural=log_natural)
        attacked, easy = learnt_from(model, images, attacked, labels, self.online)
        adversarial = model(attacked)
        losses = trades_losses(
            natural, adversarial, labels, beta=self.settings.beta, label_smoothing=self.settings.label_smoothing
        )
        return batch_loss(losses, adversarial, labels, easy)

    def attack(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        epsilon: Tensor,
        noise: BatchNoise,
        *,
        log_natural: Tensor,
    ) -> Tensor:
        """(N, C, H, W): the attacked images. BatchNorm uses batch statistics, but its running ones stay."""
        norm, radius = norm_named(self.threat.norm), epsilon.abs()
        in_l2 = norm.name == "L2"
        with frozen_statistics(model):
            return pgd(
                model,
                images,
                radius=radius,
                step_size=radius * float(self.settings.step_size / self.threat.epsilon),
                steps=self.settings.attack_steps,
                objective=partial(
                    divergence_objective, log_natural=log_natural, labels=labels, towards_label=epsilon < 0
                ),
                norm=norm,
                start=_tiny_start(images, noise) if in_l2 else random_start(norm, images, radius, noise),
                clip_start=not in_l2,
            )


def _tiny_start(images: Tensor, noise: BatchNoise) -> Tensor:
    return L2_START_SCALE * noise.normal(*images.shape[1:])
