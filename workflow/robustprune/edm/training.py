"""Training an EDM: batches, learning rate, weight average, checkpoints (Karras et al. 2022, appendix F; facts 6.1)."""

import copy
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robustprune.edm.network import build_network
from robustprune.edm.preconditioning import denoising_loss, sigma_of
from robustprune.errors import UserError
from robustprune.job import Job
from robustprune.pools.format import Pool
from robustprune.randomness import derive_seed, generator
from robustprune.settings import GeneratorSettings
from robustprune.specs import GeneratorSpec
from robustprune.steps import ResumableSteps

DEFINITION = 1

HISTORY_STEPS = 100  # steps of which one mean loss is kept
BETAS = (0.9, 0.999)  # of Adam
HALF_LIFE_SHARE = 0.05  # the weight average's half-life is at most this share of the images seen


class Batch(NamedTuple):
    """What a step learns from."""

    images: Tensor  # (N, C, H, W) float32 scaled to [-1, 1]
    labels: Tensor  # (N,) int64
    sigma: Tensor  # (N,) float32
    noise: Tensor  # (N, C, H, W) float32


class GeneratorTraining(ResumableSteps):
    """A training in progress."""

    what = "training the generator"

    def __init__(self, job: Job, spec: GeneratorSpec, pool: Pool) -> None:
        super().__init__(job, total=spec.settings.steps)
        self.spec, self.settings = spec, spec.settings
        torch.manual_seed(derive_seed(self.settings.seed, "initialisation"))
        network = build_network(self.settings, spec.image_shape, spec.classes)
        self.network = network.to(job.device).train()
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.network.parameters(), betas=BETAS, fused=True)
        self.images = torch.from_numpy(np.array(pool.images[:])).to(job.device)
        self.labels = torch.from_numpy(pool.labels.astype(np.int64)).to(job.device)
        self.loss_sum = 0.0  # since the last line of the history
        self.history: list[dict[str, float]] = []

    def take_step(self) -> None:
        """Learn from the step's batch. Raises UserError, before the update, when the loss is not finite."""
        seen = self.step * self.settings.batch_size
        batch = self.draw_batch()
        torch.manual_seed(derive_seed(self.settings.seed, "dropout", self.step))
        loss = denoising_loss(self.network, batch.images, batch.labels, sigma=batch.sigma, noise=batch.noise)
        self._add_to_history(loss.item())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(seen, self.settings)
        self.optimizer.step()
        self._update_average(averaging_beta(seen, self.settings))

    def draw_batch(self) -> Batch:
        """The next step's images, drawn with replacement and mirrored at random if asked for, and their noise."""
        size, device = self.settings.batch_size, self.job.device
        source = generator(self.settings.seed, "batch", self.step)
        rows = torch.randint(len(self.images), (size,), generator=source).to(device)
        sigma = sigma_of(torch.randn(size, generator=source)).to(device)
        noise = torch.randn(size, *self.spec.image_shape, generator=source).to(device)
        images = self.images[rows].float() / 127.5 - 1
        if self.settings.flip:
            mirrored = (torch.rand(size, generator=source) < 0.5).to(device)
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        return Batch(images, self.labels[rows], sigma, noise)

    def _add_to_history(self, loss: float) -> None:
        if not np.isfinite(loss):
            raise UserError(
                f"the loss of {self.spec.id} is {loss} at step {self.step + 1} of {self.settings.steps}, so the update "
                f"is not made; a lower synthetic.generator.learning_rate than {self.settings.learning_rate} may help"
            )
        self.loss_sum += loss
        steps = self.step % HISTORY_STEPS + 1
        if steps == HISTORY_STEPS or self.step + 1 == self.settings.steps:
            self.history.append({"step": self.step + 1, "loss": self.loss_sum / steps})
            self.loss_sum = 0.0

    @torch.no_grad()
    def _update_average(self, beta: float) -> None:
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - beta)

    def state(self) -> dict[str, Any]:
        """What a step changes."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss_sum": self.loss_sum,
            "history": self.history,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.loss_sum, self.history = state["loss_sum"], state["history"]

    def history_table(self) -> pd.DataFrame:
        """One row for every ``HISTORY_STEPS`` steps: step (the last of them) and loss (their mean)."""
        return pd.DataFrame(self.history).astype({"step": "int64"})


def learning_rate(images_seen: int, settings: GeneratorSettings) -> float:
    """Adam's learning rate after ``images_seen`` images: a linear ramp from 0, then constant."""
    share = images_seen / settings.ramp_images if settings.ramp_images else 1.0
    return settings.learning_rate * min(share, 1.0)


def averaging_beta(images_seen: int, settings: GeneratorSettings) -> float:
    """Share of the old weight average that stays in a step after ``images_seen`` images: 0 at first, then rising.

    beta = 0.5^(batch / half-life), the half-life being at most 5 % of the images seen.
    """
    half_life = min(settings.averaging_half_life_images, HALF_LIFE_SHARE * images_seen)
    return 0.5 ** (settings.batch_size / half_life) if half_life else 0.0
