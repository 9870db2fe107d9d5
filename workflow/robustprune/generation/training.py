"""Training an EDM: batches, learning rate, weight average, checkpoints (Karras et al. 2022, appendix F)."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from robustprune.core.errors import UserError
from robustprune.core.randomness import BatchNoise, derive_seed, generator
from robustprune.core.steps import ResumableSteps
from robustprune.core.team import Team
from robustprune.generation.augmentation import augment
from robustprune.generation.network import NO_CLASS, build_network
from robustprune.generation.preconditioning import Network, denoising_losses, in_precision, sigma_of
from robustprune.networks.precision import memory_format
from robustprune.training.batches import open_batches
from robustprune.training.optimizers import update
from robustprune.training.trainset import KeptImages

if TYPE_CHECKING:
    from robustprune.core.job import Job
    from robustprune.generation.generator import GeneratorStage
    from robustprune.generation.settings import GeneratorSettings
    from robustprune.images.pool import Pool

DEFINITION = {"edm.training": 2}

HISTORY_STEPS = 100  # steps of which one mean loss is kept
BETAS = (0.9, 0.999)  # of Adam
HALF_LIFE_SHARE = 0.05  # the weight average's half-life is at most this share of the images seen
NEVER = torch.iinfo(torch.int64).max
ALONE = Team()


class GeneratorBatch(NamedTuple):
    """A step's images: this process's share of the batch."""

    images: Tensor  # (N, C, H, W) float32 scaled to [-1, 1]
    labels: Tensor  # (N,) int64, NO_CLASS where the network is not told
    augmentation: Tensor | None  # (N, 9) float32, where images are augmented
    sigma: Tensor  # (N,) float32
    noise: Tensor  # (N, C, H, W) float32


class GeneratorTraining(ResumableSteps):
    """A training in progress, in one process or, each taking its share of every batch, in those of ``team``."""

    what = "training the generator"

    def __init__(self, job: Job, spec: GeneratorStage, pool: Pool, team: Team = ALONE) -> None:
        super().__init__(job, total=spec.settings.steps)
        self.spec, self.settings, self.team = spec, spec.settings, team
        if self.settings.batch_size < team.size:
            raise UserError(
                f"synthetic.generator.batch_size = {self.settings.batch_size} cannot be shared among "
                f"{team.size} processes; raise it or lower execution.processes"
            )
        torch.manual_seed(derive_seed(self.settings.seed, "initialisation"))
        network = build_network(self.settings, spec.image_shape, spec.classes)
        layout = memory_format(network, self.settings.precision, job.device)
        self.network = network.to(job.device).to(memory_format=layout).train()
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.network.parameters(), betas=BETAS, fused=True)
        self.pool_size = len(pool)
        every = KeptImages(pool, np.arange(len(pool)), np.zeros(len(pool), np.float32))
        self.batches = open_batches([every], job.device, self._rows, total=self.total)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=job.device)  # since the last line of the history
        self.first_broken = torch.tensor(NEVER, device=job.device)  # step whose loss or gradient is not finite
        self.history: list[dict[str, float]] = []

    def take_step(self) -> None:
        """Learn from the step's batch; nothing waits for the device but at a line of the history.

        Raises:
            UserError: at such a line, where a loss or gradient since the last one was not finite.
        """
        seen = self.step * self.settings.batch_size
        loss = self._loss(self.draw_batch())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [value.grad for value in self.network.parameters() if value.grad is not None]
        loss = loss.detach()
        self.team.add_up([*gradients, loss])
        broken = ~torch.isfinite(nn.utils.get_total_norm(gradients) + loss)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(seen, self.settings)
        update(self.optimizer, broken=broken)
        self.first_broken = torch.where(broken, self.first_broken.clamp(max=self.step), self.first_broken)
        self._update_average(averaging_beta(seen, self.settings))
        self._add_to_history(loss)

    def draw_batch(self) -> GeneratorBatch:
        """The next step's images, drawn with replacement, mirrored and augmented if asked for, and their noise."""
        settings = self.settings
        read = self.batches.at(self.step)
        images, augmentation = read.images.float() / 127.5 - 1, None
        noise = self._noise("noise")
        sigma, added = sigma_of(noise.normal()), noise.normal(*self.spec.image_shape)
        if settings.flip:
            mirrored = self._noise("flip").uniform() < 0
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        if settings.augmentation_probability > 0:
            images, augmentation = augment(images, self._noise("augmentation"), settings.augmentation_probability)
        return GeneratorBatch(images, self._told(read.labels), augmentation, sigma, added)

    def _told(self, labels: Tensor) -> Tensor:
        """The labels, some of them replaced by ``NO_CLASS``."""
        share = self.settings.label_dropout
        return labels if share == 0 else torch.where(self._noise("label").uniform() < 2 * share - 1, NO_CLASS, labels)

    def _rows(self, step: int) -> list[Tensor]:
        source = generator(self.settings.seed, "batch", step)
        return [torch.randint(self.pool_size, (self.settings.batch_size,), generator=source)[self.team.rows]]

    def _noise(self, purpose: str) -> BatchNoise:
        source = generator(self.settings.seed, purpose, self.step, device=self.job.device)
        return BatchNoise(source, self.settings.batch_size, self.team.rows)

    def _loss(self, batch: GeneratorBatch) -> Tensor:
        """() float32: this process's part of the mean over the batch."""
        self.network.drop_by(self._noise("dropout"))
        told: Network = partial(self.network, augmentation=batch.augmentation)
        network = in_precision(told, self.settings.precision, self.job.device)
        losses = denoising_losses(network, batch.images, batch.labels, sigma=batch.sigma, noise=batch.noise)
        return losses.sum() / self.settings.batch_size

    def _add_to_history(self, loss: Tensor) -> None:
        self.loss_sum += loss
        steps = self.step % HISTORY_STEPS + 1
        if steps == HISTORY_STEPS or self.step + 1 == self.settings.steps:
            self._refuse_broken_steps()
            self.history.append({"step": self.step + 1, "loss": float(self.loss_sum) / steps})
            self.loss_sum.zero_()

    def _refuse_broken_steps(self) -> None:
        step = int(self.first_broken)
        if step != NEVER:
            raise UserError(
                f"the loss of {self.spec.id} or its gradient is not finite at step {step + 1} of "
                f"{self.settings.steps}, so the update is not made; a lower synthetic.generator.learning_rate than "
                f"{self.settings.learning_rate} may help"
            )

    @torch.no_grad()
    def _update_average(self, beta: float) -> None:
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - beta)

    def state(self) -> dict[str, Any]:
        """Return the state that a step changes. Raises UserError where a loss or gradient was not finite."""
        self._refuse_broken_steps()
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
        self.loss_sum.copy_(state["loss_sum"])
        self.history = state["history"]

    def history_table(self) -> pd.DataFrame:
        """One row for every ``HISTORY_STEPS`` steps: step (the last of them) and loss (their mean)."""
        return pd.DataFrame(self.history).astype({"step": "int64"})


def learning_rate(images_seen: int, settings: GeneratorSettings) -> float:
    """Adam's learning rate after ``images_seen`` images: a linear ramp from 0, then constant or falling to 0."""
    share = images_seen / settings.ramp_images if settings.ramp_images else 1.0
    left = 1 - images_seen / (settings.steps * settings.batch_size) if settings.schedule == "linear" else 1.0
    return settings.learning_rate * min(share, 1.0) * left


def averaging_beta(images_seen: int, settings: GeneratorSettings) -> float:
    """Share of the old weight average that stays in a step after ``images_seen`` images: 0 at first, then rising.

    beta = 0.5^(batch / half-life), the half-life being at most 5 % of the images seen.
    """
    half_life = min(settings.averaging_half_life_images, HALF_LIFE_SHARE * images_seen)
    return 0.5 ** (settings.batch_size / half_life) if half_life else 0.0
