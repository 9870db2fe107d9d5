"""Training a classifier: batches, schedule, average, history; attack and loss of a batch are in ``recipes``."""

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
from robustprune.training.batchnorm import set_statistics_momentum
from robustprune.training.clock import Clock, Position
from robustprune.training.optimizers import build_optimizer, set_cycle
from robustprune.training.recipes.registry import build_recipe
from robustprune.training.sampler import EpochSampler
from robustprune.training.schedules import cycle_point
from robustprune.training.trainset import Batch, KeptImages

DEFINITION = 2


class Training(ResumableSteps):
    """A training in progress."""

    what = "training"

    def __init__(self, job: Job, spec: ModelSpec, kept: list[KeptImages]) -> None:
        settings = spec.training
        self.clock = Clock((settings.steps_per_epoch(len(kept[0])),) * settings.epochs)
        super().__init__(job, total=self.clock.total)
        self.spec, self.kept = spec, kept
        torch.manual_seed(derive_seed(spec.seed, "initialisation"))
        model = build_model(spec.architecture, image_shape=spec.image_shape, classes=spec.classes)
        self.model: nn.Module = model.to(job.device).train()
        self.recipe = build_recipe(settings, spec.threat)
        self.optimizer = build_optimizer(self.model, settings)
        self.average = WeightAverage(self.model)
        synthetic = len(kept[1]) if len(kept) > 1 else 0
        self.sampler = EpochSampler(real=len(kept[0]), synthetic=synthetic, settings=settings, seed=spec.seed)
        self.tally = Tally(job.device)
        self.history: list[dict[str, float]] = []

    def take_step(self) -> None:
        """Draw the step's batch, attack it, update model and average. Raises UserError when the loss is not finite."""
        position = self.clock.position(self.step)
        self._set_pace(position)
        batch = self.draw_batch(position)
        images = self._augment(batch.images).to(torch.float32) / 255
        noise = generator(self.spec.seed, "attack", self.step)
        losses, right = self.recipe.losses(self.model, images, batch.labels, batch.epsilon, noise)
        self._update(losses.mean())
        self.tally.add(losses, right)
        if position.ends_epoch:
            self._end_epoch(position)

    def _set_pace(self, position: Position) -> None:
        """Learning rate, momentum, and how fast BatchNorm's statistics move, for this step."""
        settings = self.spec.training
        set_cycle(self.optimizer, cycle_point(settings, position))
        first = position.number == 0 and settings.statistics_from_first_batch
        set_statistics_momentum(self.model, 1.0 if first else settings.statistics_momentum)

    def draw_batch(self, position: Position) -> Batch:
        """The step's real and synthetic images."""
        positions = [self.sampler.real_positions(position)]
        if self.spec.training.synthetic_in_batch:
            positions.append(self.sampler.synthetic_positions(position))
        parts = [kept.take(chosen, self.job.device) for kept, chosen in zip(self.kept, positions, strict=False)]
        return Batch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _augment(self, images: Tensor) -> Tensor:
        if self.spec.training.augmentation == "none":
            return images
        return crop_flip(images, generator(self.spec.seed, "augmentation", self.step))

    def _update(self, loss: Tensor) -> None:
        """Move the model against the gradient of the loss, and the average towards the model."""
        settings = self.spec.training
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss of {self.spec.id} is {loss.item()} at step {self.step + 1} of {self.total}, so the update "
                f"is not made; a lower training.{settings.recipe}.learning_rate than {settings.learning_rate} may help"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        warm_up = settings.averaging_warmup * self.clock.total
        self.average.update(averaging_decay(self.step + 1, warm_up=warm_up, highest=settings.averaging_decay))

    def _end_epoch(self, position: Position) -> None:
        rate = self.optimizer.param_groups[0]["lr"]
        self.history.append({"epoch": position.epoch + 1, **self.tally.means(), "learning_rate": rate})
        self.tally.clear()

    def state(self) -> dict[str, Any]:
        """What a step changes."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "tally": self.tally.sums,
            "history": self.history,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.tally.sums.copy_(state["tally"])
        self.history = state["history"]

    def history_table(self) -> pd.DataFrame:
        """One row an epoch.

        Columns: epoch (from 1); loss and training_accuracy, means over the epoch's images as they were learnt from,
        that is augmented and attacked; learning_rate of its last step.
        """
        return pd.DataFrame(self.history).astype({"epoch": "int32"})


class Tally:
    """Sums over the images of an epoch, kept on the device so that no step waits for it."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)  # images, losses, images classified rightly

    def add(self, losses: Tensor, right: Tensor) -> None:
        """Take in a batch: (N,) losses and (N,) bool."""
        self.sums += torch.stack([torch.ones_like(losses).sum(), losses.detach().sum(), right.sum()])

    def means(self) -> dict[str, float]:
        """Loss and training_accuracy of an image, on average."""
        images, loss, right = self.sums.tolist()
        return {"loss": loss / images, "training_accuracy": right / images}

    def clear(self) -> None:
        """Begin the next epoch."""
        self.sums.zero_()
