"""Training a classifier: batches, schedule, average, history; attack and loss of a step are in ``step``."""

from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from robustprune.errors import UserError
from robustprune.job import Job
from robustprune.models.registry import build_model
from robustprune.randomness import derive_seed, generator
from robustprune.specs import ModelSpec
from robustprune.steps import ResumableSteps
from robustprune.training.augmentation import crop_flip
from robustprune.training.averaging import WeightAverage, averaging_decay
from robustprune.training.optimizers import build_optimizer, set_cycle
from robustprune.training.sampler import EpochSampler
from robustprune.training.schedules import CyclePoint, one_cycle
from robustprune.training.step import TradesStep, set_statistics_momentum
from robustprune.training.trainset import Batch, KeptImages

DEFINITION = 1


class Training(ResumableSteps):
    """A training in progress."""

    what = "training"

    def __init__(self, job: Job, spec: ModelSpec, kept: list[KeptImages]) -> None:
        settings = spec.training
        super().__init__(job, total=settings.steps)
        self.spec, self.kept = spec, kept
        torch.manual_seed(derive_seed(spec.seed, "initialisation"))
        model = build_model(spec.architecture, image_shape=spec.image_shape, classes=spec.classes)
        self.model: nn.Module = model.to(job.device).train()
        self.optimizer = build_optimizer(self.model, settings)
        self.average = WeightAverage(self.model)
        self.epoch_loss = torch.zeros((), device=job.device)
        self.history: list[dict[str, float]] = []
        self.sampler = EpochSampler(
            real=len(kept[0]),
            synthetic=len(kept[1]) if len(kept) > 1 else 0,
            real_count=settings.batch_size - settings.synthetic_in_batch,
            synthetic_count=settings.synthetic_in_batch,
            steps_per_epoch=settings.steps_per_epoch,
            seed=spec.seed,
        )

    def take_step(self) -> None:
        """Draw the step's batch, attack it, update model and average. Raises UserError when the loss is not finite."""
        settings = self.spec.training
        point = cycle_point(self.spec, self.step)
        set_cycle(self.optimizer, point)
        set_statistics_momentum(self.model, 1.0 if self.step == 0 else settings.statistics_momentum)
        batch = self.draw_batch()
        images = self._augment(batch.images).to(torch.float32) / 255
        noise = generator(self.spec.seed, "attack", self.step)
        loss = TradesStep(settings, self.spec.threat).loss(self.model, images, batch.labels, batch.epsilon, noise)
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss of {self.spec.id} is {loss.item()} at step {self.step + 1} of {settings.steps}, so the "
                f"update is not made; a lower training.learning_rate than {settings.learning_rate} may help"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        done, warm_up = self.step + 1, settings.averaging_warmup * settings.steps
        self.average.update(averaging_decay(done, warm_up=warm_up, highest=settings.averaging_decay))
        self.epoch_loss += loss.detach()
        if done % settings.steps_per_epoch == 0:
            self._end_epoch(done // settings.steps_per_epoch, point)

    def draw_batch(self) -> Batch:
        """The next step's real and synthetic images."""
        positions = [self.sampler.real_positions(self.step)]
        if self.sampler.synthetic_count:
            positions.append(self.sampler.synthetic_positions(self.step))
        parts = [kept.take(chosen, self.job.device) for kept, chosen in zip(self.kept, positions, strict=False)]
        return Batch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _augment(self, images: Tensor) -> Tensor:
        if self.spec.training.augmentation == "none":
            return images
        return crop_flip(images, generator(self.spec.seed, "augmentation", self.step))

    def _end_epoch(self, epoch: int, point: CyclePoint) -> None:
        mean_loss = self.epoch_loss.item() / self.spec.training.steps_per_epoch
        self.history.append({"epoch": epoch, "loss": mean_loss, "learning_rate": point.learning_rate})
        self.epoch_loss.zero_()

    def state(self) -> dict[str, Any]:
        """What a step changes."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch_loss": self.epoch_loss,
            "history": self.history,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch_loss.copy_(state["epoch_loss"])
        self.history = state["history"]

    def history_table(self) -> pd.DataFrame:
        """One row an epoch: epoch, loss (mean over its steps), learning_rate (of its last step)."""
        return pd.DataFrame(self.history).astype({"epoch": "int32"})


def cycle_point(spec: ModelSpec, step: int) -> CyclePoint:
    """Learning rate and momentum of a step, by the epoch or by the step as the recipe says."""
    settings = spec.training
    if settings.schedule == "onecycle_epoch":
        return one_cycle(step // settings.steps_per_epoch, settings.epochs, peak=settings.learning_rate)
    return one_cycle(step, settings.steps, peak=settings.learning_rate)
