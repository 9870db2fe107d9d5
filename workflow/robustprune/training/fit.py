"""Training a classifier: batches, schedule, average, history; attack and loss of a batch are in ``recipes``."""

from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from robustprune.errors import UserError
from robustprune.job import Job
from robustprune.models.registry import build_model
from robustprune.randomness import BatchNoise, derive_seed, generator
from robustprune.specs import ModelSpec
from robustprune.steps import ResumableSteps
from robustprune.training.augmentation import crop_flip
from robustprune.training.averaging import WeightAverage, averaging_decay
from robustprune.training.batches import Batch, open_batches
from robustprune.training.batchnorm import set_statistics_momentum
from robustprune.training.clock import Clock, Position
from robustprune.training.optimizers import build_optimizer, set_cycle, update
from robustprune.training.recipes.base import BatchLoss
from robustprune.training.recipes.registry import build_recipe
from robustprune.training.sampler import EpochSampler
from robustprune.training.schedules import cycle_point
from robustprune.training.trainset import KeptImages
from robustprune.training.validation import Validation

DEFINITION = 2

NEVER = torch.iinfo(torch.int64).max


class Training(ResumableSteps):
    """A training in progress."""

    what = "training"

    def __init__(self, job: Job, spec: ModelSpec, kept: list[KeptImages]) -> None:
        settings = spec.training
        self.clock = Clock((settings.steps_per_epoch(len(kept[0])),) * settings.epochs)
        super().__init__(job, total=self.clock.total)
        self.spec = spec
        torch.manual_seed(derive_seed(spec.seed, "initialisation"))
        model = build_model(spec.architecture, image_shape=spec.image_shape, classes=spec.classes)
        layout = memory_format(model, job.device, settings.precision)
        self.model: nn.Module = model.to(job.device).to(memory_format=layout).train()
        self.recipe = build_recipe(settings, spec.threat)
        self.optimizer = build_optimizer(self.model, settings)
        self.average = WeightAverage(self.model)
        synthetic = len(kept[1]) if len(kept) > 1 else 0
        self.sampler = EpochSampler(real=len(kept[0]), synthetic=synthetic, settings=settings, seed=spec.seed)
        self.batches = open_batches(kept, job.device, self._positions, total=self.total)
        self.first_broken = torch.tensor(NEVER, device=job.device)  # step whose loss or gradient is not finite
        self.validation = Validation(spec, kept[0].pool, job.device)
        self.tally = Tally(job.device)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] = {}  # epoch, accuracy and averaged weights of the best validation so far

    def take_step(self) -> None:
        """Attack the step's batch, update model and average. Nothing waits for the device but at the end of an epoch.

        Raises:
            UserError: at the end of an epoch in which a loss or gradient was not finite.
        """
        position = self.clock.position(self.step)
        self._set_pace(position)
        batch = self.batches.at(self.step)
        losses, right = self._losses(batch)
        self._update(losses.mean())
        self.tally.add(losses, right)
        if position.ends_epoch:
            self._end_epoch(position)

    def _positions(self, step: int) -> list[Tensor]:
        return self.sampler.positions(self.clock.position(step))

    def _losses(self, batch: Batch) -> BatchLoss:
        settings, device = self.spec.training, self.job.device
        images = batch.images
        if settings.augmentation == "crop_flip":
            images = crop_flip(images, self._noise("augmentation", len(images)))
        images = images.to(torch.float32) / 255
        noise = self._noise("attack", len(images))
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            return self.recipe.losses(self.model, images, batch.labels, batch.epsilon, noise)

    def _noise(self, purpose: str, images: int) -> BatchNoise:
        return BatchNoise(generator(self.spec.seed, purpose, self.step, device=self.job.device), images)

    def _set_pace(self, position: Position) -> None:
        """Learning rate, momentum, and how fast BatchNorm's statistics move, for this step."""
        settings = self.spec.training
        set_cycle(self.optimizer, cycle_point(settings, position))
        first = position.number == 0 and settings.statistics_from_first_batch
        set_statistics_momentum(self.model, 1.0 if first else settings.statistics_momentum)

    def _update(self, loss: Tensor) -> None:
        """Move the model against the gradient of the loss, if both are finite, and the average towards the model."""
        settings = self.spec.training
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [value.grad for value in self.model.parameters() if value.grad is not None]
        broken = ~torch.isfinite(nn.utils.get_total_norm(gradients) + loss.detach())
        update(self.optimizer, broken=broken)
        self.first_broken = torch.where(broken, self.first_broken.clamp(max=self.step), self.first_broken)
        warm_up = settings.averaging_warmup * self.clock.total
        self.average.update(averaging_decay(self.step + 1, warm_up=warm_up, highest=settings.averaging_decay))

    def _refuse_broken_steps(self) -> None:
        step, settings = int(self.first_broken), self.spec.training
        if step != NEVER:
            raise UserError(
                f"the loss of {self.spec.id} or its gradient is not finite at step {step + 1} of {self.total}, so the "
                f"update is not made; a lower training.{settings.recipe}.learning_rate than {settings.learning_rate} "
                "may help"
            )

    def _end_epoch(self, position: Position) -> None:
        self._refuse_broken_steps()
        rate = self.optimizer.param_groups[0]["lr"]
        row = {"epoch": position.epoch + 1, **self.tally.means(), "learning_rate": rate}
        self.tally.clear()
        if self.validation.is_due(position):
            with self.timed_apart("validation"):
                row |= self._validate(position.epoch + 1)
        self.history.append(row)

    def _validate(self, epoch: int) -> dict[str, float]:
        """The averaged model's accuracies; it is kept where none before was better."""
        found = self.validation.accuracies(self.average.averaged_model().eval().requires_grad_(False))
        accuracy = found[self.validation.criterion]
        if accuracy >= self.best.get("accuracy", 0.0):
            weights = {name: value.to("cpu", copy=True) for name, value in self.average.state_dict().items()}
            self.best = {"epoch": epoch, "accuracy": accuracy, "weights": weights}
        return found

    def state(self) -> dict[str, Any]:
        """What a step changes. Raises UserError where a loss or gradient was not finite: that state is not kept."""
        self._refuse_broken_steps()
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "tally": self.tally.sums,
            "history": self.history,
            "best": self.best,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.tally.sums.copy_(state["tally"])
        self.history, self.best = state["history"], state["best"]

    def history_table(self) -> pd.DataFrame:
        """One row an epoch.

        Columns: epoch (from 1); loss and training_accuracy, means over the epoch's images as they were learnt from,
        that is augmented and attacked; learning_rate of its last step; where the recipe validates, validation_clean
        and (where it attacks) validation_pgd, accuracies of the averaged model, NaN after epochs without.
        """
        return pd.DataFrame(self.history).astype({"epoch": "int32"})


def memory_format(model: nn.Module, device: torch.device, precision: str) -> torch.memory_format:
    """The faster order of a network's tensors: channels last for deep ones on CPUs, and for bfloat16 on GPUs."""
    deep = any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    faster = deep if device.type == "cpu" else precision == "bfloat16"
    return torch.channels_last if faster else torch.preserve_format


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
