"""Training a classifier: batches, schedule, average, history; attack and loss of a batch are in ``recipes``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.core.errors import Interrupted, UserError
from robustprune.core.randomness import BatchNoise, derive_seed, generator
from robustprune.core.steps import ResumableSteps
from robustprune.core.team import Team
from robustprune.networks.architecture import build_model
from robustprune.networks.batchnorm import fewest_images, set_statistics_momentum, take_statistics
from robustprune.networks.precision import arithmetic, memory_format
from robustprune.training.averaging import WeightAverage, averaging_decay
from robustprune.training.batches import Batch, open_batches
from robustprune.training.compilation import compiled
from robustprune.training.optimizers import build_optimizer, set_cycle, update
from robustprune.training.sampler import EpochSampler
from robustprune.training.schedules import Clock, Position, cycle_point
from robustprune.training.validation import Validation

if TYPE_CHECKING:
    from robustprune.core.randomness import BatchNoise

if TYPE_CHECKING:
    from robustprune.core.job import Job
    from robustprune.training.losses import BatchLoss
    from robustprune.training.model import ModelStage
    from robustprune.training.trainset import KeptImages, Stratum

DEFINITION = {"training.augmentation": 1, "training.fit": 2}

NEVER = torch.iinfo(torch.int64).max
ALONE = Team()


class Training(ResumableSteps):
    """A training in progress, in one process or, each taking its share of every batch, in those of ``team``."""

    what = "training"

    def __init__(self, job: Job, spec: ModelStage, kept: list[KeptImages], team: Team = ALONE) -> None:
        settings, self.team = spec.training, team
        self.clock = clock_of(spec, len(kept[0]))
        super().__init__(job, total=self.clock.total)
        self.spec = spec
        torch.manual_seed(derive_seed(spec.seed, "initialisation"))
        model = build_model(spec.architecture, image_shape=spec.image_shape, classes=spec.classes)
        take_statistics(model, shares=settings.batchnorm_shares, team=team)
        layout = memory_format(model, settings.precision, job.device)
        self.model: nn.Module = model.to(job.device).to(memory_format=layout).train()
        self.optimizer = build_optimizer(self.model, settings)
        self.average = WeightAverage(self.model)
        self.prune_at = NEVER if spec.mid_training is None else self.clock.end_of(spec.mid_training.after_epoch)
        self._refuse_empty_shares(len(kept[0]), last_step=min(self.total, self.prune_at) - 1)
        if spec.mid_training is not None:
            left = len(kept[0]) - spec.mid_training.dropped(len(kept[0]))
            self._refuse_empty_shares(left, last_step=self.total - 1)
        self._open(kept, until=min(self.total, self.prune_at))
        self.first_broken = torch.tensor(NEVER, device=job.device)  # step whose loss or gradient is not finite
        self.validation = Validation(spec, kept[0].pool, job.device)
        self.tally = Tally(job.device)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] = {}  # epoch, accuracy and averaged weights of the best validation so far
        self.network, self.compiled = compiled(
            self.model, job.execution.compile, device=job.device, processes=team.size, trial=self._try_step
        )

    def take_step(self) -> None:
        """Attack the step's batch, update model and average. Nothing waits for the device but at the end of an epoch.

        Raises:
            UserError: at the end of an epoch in which a loss or gradient was not finite.
        """
        if self.step == self.prune_at:
            self._prune_midway()
        position = self.clock.position(self.step)
        self._set_pace(position)
        losses, right, easy = self._losses(self.batches.at(self.step))
        pruned = torch.zeros_like(right) if easy is None or self._warms_up(position) else easy
        learnt_from = self.team.total((~pruned).sum())
        loss = losses.masked_fill(pruned, 0).sum() / learnt_from.clamp(min=1)
        sums = sums_of(losses, right, pruned)
        self._update(loss, sums, skip=learnt_from == 0)
        self.tally.add(sums)
        if position.ends_epoch:
            self._end_epoch(position)

    def _try_step(self, network: nn.Module) -> None:
        """Twice the first step's loss and gradient by this network; only the network stays."""
        self.network = network
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        self._set_pace(self.clock.position(0))
        try:
            for _ in range(2):  # what a CUDA graph recorded is replayed the second time
                self.optimizer.zero_grad(set_to_none=True)
                self._losses(self.batches.at(0)).losses.mean().backward()  # type: ignore[no-untyped-call]
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            self.model.load_state_dict(before)

    def _open(self, kept: list[KeptImages], *, until: int) -> None:
        """Draw from these images in the steps before ``until``."""
        self.kept = kept
        synthetic = kept[1].strata if len(kept) > 1 else ()
        self.sampler = self._sampler(len(kept[0]), synthetic)
        self.batches = open_batches(kept, self.job.device, self._positions, total=until)

    def _sampler(self, real: int, synthetic: Sequence[Stratum] = ()) -> EpochSampler:
        return EpochSampler(real=real, synthetic=synthetic, settings=self.spec.training, seed=self.spec.seed)

    def _refuse_empty_shares(self, real: int, *, last_step: int) -> None:
        """Refuse empty shares of the last batch of an epoch of so many real images; ``last_step`` ends it."""
        settings = self.spec.training
        smallest = self._sampler(real).batch_size(self.clock.position(last_step))
        shares, each = settings.batchnorm_shares, fewest_images(self.model, self.spec.image_shape)
        needed, why = max(
            (self.team.size, f"one for each of {self.team.size} processes"),
            (shares * each, f"{each} for each of the {shares} shares that BatchNorm takes statistics of"),
        )
        if smallest < needed:
            raise UserError(
                f"the last batch of an epoch of {self.spec.id} has {smallest} images, but should have {needed} or "
                f"more, {why}; change training.{settings.recipe}.batch_size = {settings.batch_size}, batchnorm_shares "
                "or execution.processes"
            )

    def _prune_midway(self) -> None:
        """Choose the images of the steps to come; scores of a killed attempt belong to the state that is saved here."""
        assert self.spec.mid_training is not None
        with self.team.leader_first():
            if self.team.leads and self.step == self.prune_at:
                self.save()
            try:
                kept = self.spec.mid_training.prune(self.job, self.spec, self.model, self.kept)
            except Interrupted:
                self.save()  # the time it took
                raise
        self._open(kept, until=self.total)

    def _warms_up(self, position: Position) -> bool:
        return self.spec.online is not None and position.epoch < self.spec.online.warm_up_epochs

    def _positions(self, step: int) -> list[Tensor]:
        return self.team.share(self.sampler.positions(self.clock.position(step)))

    def _losses(self, batch: Batch) -> BatchLoss:
        settings, device = self.spec.training, self.job.device
        if self.network is not self.model:
            # No graph's outputs are written over before the step ends.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        whole = self.sampler.batch_size(self.clock.position(self.step))
        images = batch.images
        if settings.augmentation == "crop_flip":
            images = crop_flip(images, self._noise("augmentation", whole))
        images = images.to(torch.float32) / 255
        noise = self._noise("attack", whole)
        with arithmetic(settings.precision, device):
            return settings.losses(
                self.network,
                images,
                batch.labels,
                batch.epsilon,
                noise,
                threat=self.spec.threat,
                online=self.spec.online,
            )

    def _noise(self, purpose: str, whole: int) -> BatchNoise:
        source = generator(self.spec.seed, purpose, self.step, device=self.job.device)
        return BatchNoise(source, whole, self.team.rows)

    def _set_pace(self, position: Position) -> None:
        """Learning rate, momentum, and how fast BatchNorm's statistics move, for this step."""
        settings = self.spec.training
        set_cycle(self.optimizer, cycle_point(settings, position))
        first = position.number == 0 and settings.statistics_from_first_batch
        set_statistics_momentum(self.model, 1.0 if first else settings.statistics_momentum)

    def _update(self, loss: Tensor, sums: Tensor, *, skip: Tensor) -> None:
        """Move the model against the gradient of the loss, if both are finite, and the average towards the model.

        Gradients, loss and sums are of this process's share of the batch; ``sums`` become those of the whole. Where
        ``skip`` (() bool), all images of the batch were pruned and the model stays.
        """
        settings = self.spec.training
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [value.grad for value in self.model.parameters() if value.grad is not None]
        loss = loss.detach()
        self.team.add_up([*gradients, loss, sums])
        broken = ~torch.isfinite(nn.utils.get_total_norm(gradients) + loss)
        update(self.optimizer, broken=broken | skip)
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
        means = self.tally.means()
        if self.spec.online is None:
            del means["pruned"]
        row = {"epoch": position.epoch + 1, **means, "learning_rate": rate}
        self.tally.clear()
        if self.team.leads and self.validation.is_due(position):
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
        """Return the state that a step changes. Raises UserError where a loss or gradient was not finite."""
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
        if self.step > self.prune_at:
            self._prune_midway()

    def history_table(self) -> pd.DataFrame:
        """One row an epoch.

        Columns: epoch (from 1); loss and training_accuracy, means over the epoch's images as they were learnt from,
        that is augmented and attacked; pruned, the share of them that online pruning dropped, where there is any;
        learning_rate of its last step; where the recipe validates, validation_clean and (where it attacks)
        validation_pgd, accuracies of the averaged model, NaN after epochs without.
        """
        return pd.DataFrame(self.history).astype({"epoch": "int32"})


def clock_of(spec: ModelStage, real_images: int) -> Clock:
    """The steps of each epoch; where an epoch is one pass, pruning in the middle shortens those after it."""
    settings, midway = spec.training, spec.mid_training
    steps = [settings.steps_per_epoch(real_images)] * settings.epochs
    if midway is not None:
        shorter = settings.steps_per_epoch(real_images - midway.dropped(real_images))
        steps[midway.after_epoch :] = [shorter] * (settings.epochs - midway.after_epoch)
    return Clock(tuple(steps))


def sums_of(losses: Tensor, right: Tensor, pruned: Tensor) -> Tensor:
    """(4,) float32: images, losses, images right, images pruned; of (N,) losses, (N,) bool and (N,) bool."""
    return torch.stack([torch.ones_like(losses).sum(), losses.detach().sum(), right.sum(), pruned.sum()])


class Tally:
    """Sums over the images of an epoch, kept on the device so that no step waits for it."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)  # as ``sums_of``

    def add(self, sums: Tensor) -> None:
        """Take in a batch's ``sums_of``."""
        self.sums += sums

    def means(self) -> dict[str, float]:
        """Loss and training_accuracy of an image, on average, and the share pruned."""
        images, loss, right, pruned = self.sums.tolist()
        return {"loss": loss / images, "training_accuracy": right / images, "pruned": pruned / images}

    def clear(self) -> None:
        """Begin the next epoch."""
        self.sums.zero_()


PADDING = 4  # pixels of zeros on each side before the crop


def crop_flip(images: Tensor, noise: BatchNoise) -> Tensor:
    """Crop each image at random after zero padding by 4 pixels, and mirror half of them.

    Args:
        images: (N, C, H, W) uint8 or float.
        noise: the crops and flips, drawn on the device of the images.

    Returns:
        Tensor of the same shape and dtype.
    """
    count, channels, height, width = images.shape
    down, right = noise.integers(2 * PADDING + 1), noise.integers(2 * PADDING + 1)
    mirrored = noise.uniform() < 0
    along = torch.arange(width, device=images.device)
    rows = down[:, None] + torch.arange(height, device=images.device)
    columns = right[:, None] + torch.where(mirrored[:, None], width - 1 - along, along)
    padded = F.pad(images, (PADDING,) * 4)
    index = (rows * padded.shape[3])[:, :, None] + columns[:, None, :]  # (N, H, W) into a flattened padded image
    return padded.flatten(2).gather(2, index.view(count, 1, -1).expand(-1, channels, -1)).view_as(images)
