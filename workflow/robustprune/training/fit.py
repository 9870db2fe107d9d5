"""The training loop: steps, checkpoints, history; what happens in a step is in ``step``."""

import time
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from robustprune.errors import UserError
from robustprune.job import Job
from robustprune.models.registry import build_model
from robustprune.randomness import derive_seed, generator
from robustprune.specs import ModelSpec
from robustprune.state import load_state, save_state
from robustprune.training.augmentation import crop_flip
from robustprune.training.averaging import WeightAverage, averaging_decay
from robustprune.training.optimizers import build_optimizer, set_cycle
from robustprune.training.sampler import EpochSampler
from robustprune.training.schedules import CyclePoint, one_cycle
from robustprune.training.step import TradesStep, set_statistics_momentum
from robustprune.training.trainset import Batch, KeptImages

DEFINITION = 1

CHECKPOINT_FILE = "checkpoint.pt"


@dataclass
class Training:
    """A training in progress. Everything that a resumed run needs is in ``state``; random draws need only the step."""

    job: Job
    spec: ModelSpec
    kept: list[KeptImages]
    step: int = 0
    seconds: float = 0.0  # of training, over all attempts
    epoch_loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = self.spec.training
        torch.manual_seed(derive_seed(self.spec.seed, "initialisation"))
        model = build_model(self.spec.architecture, image_shape=self.spec.image_shape, classes=self.spec.classes)
        self.model: nn.Module = model.to(self.job.device).train()
        self.optimizer = build_optimizer(self.model, settings)
        self.average = WeightAverage(self.model)
        self.epoch_loss = self.epoch_loss.to(self.job.device)
        self.sampler = EpochSampler(
            real=len(self.kept[0]),
            synthetic=len(self.kept[1]) if len(self.kept) > 1 else 0,
            real_count=settings.batch_size - settings.synthetic_in_batch,
            synthetic_count=settings.synthetic_in_batch,
            steps_per_epoch=settings.steps_per_epoch,
            seed=self.spec.seed,
        )

    def run(self) -> None:
        """Train to the last step, from the last checkpoint where there is one. Raises Interrupted on a signal."""
        self.resume()
        total = self.spec.training.steps
        started = time.monotonic() - self.seconds
        with self.job.progress("training", total=total, unit="steps", done=self.step) as progress, self.job.checkpoints:
            while self.step < total:
                self.one_step()
                self.seconds = time.monotonic() - started
                progress.advance()
                self.job.checkpoints.tick(self.save)
        self.save()

    def one_step(self) -> None:
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
        self.step += 1
        warm_up = settings.averaging_warmup * settings.steps
        self.average.update(averaging_decay(self.step, warm_up=warm_up, highest=settings.averaging_decay))
        self.epoch_loss += loss.detach()
        if self.step % settings.steps_per_epoch == 0:
            self._end_epoch(point)

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

    def _end_epoch(self, point: CyclePoint) -> None:
        epoch = self.step // self.spec.training.steps_per_epoch
        mean_loss = self.epoch_loss.item() / self.spec.training.steps_per_epoch
        self.history.append({"epoch": epoch, "loss": mean_loss, "learning_rate": point.learning_rate})
        self.epoch_loss.zero_()

    def save(self) -> None:
        """Checkpoint everything that is not derived from spec and step."""
        save_state(
            self.job.partial / CHECKPOINT_FILE,
            {
                "step": self.step,
                "seconds": self.seconds,
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "epoch_loss": self.epoch_loss,
                "history": self.history,
            },
        )

    def resume(self) -> None:
        """Go back to the last checkpoint, if there is one."""
        state: dict[str, Any] | None = load_state(self.job.partial / CHECKPOINT_FILE)
        if state is None:
            return
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch_loss.copy_(state["epoch_loss"])

    def history_table(self) -> pd.DataFrame:
        """One row an epoch: epoch, loss (mean over its steps), learning_rate (of its last step)."""
        return pd.DataFrame(self.history).astype({"epoch": "int32"})


def cycle_point(spec: ModelSpec, step: int) -> CyclePoint:
    """Learning rate and momentum of a step, by the epoch or by the step as the recipe says."""
    settings = spec.training
    if settings.schedule == "onecycle_epoch":
        return one_cycle(step // settings.steps_per_epoch, settings.epochs, peak=settings.learning_rate)
    return one_cycle(step, settings.steps, peak=settings.learning_rate)
