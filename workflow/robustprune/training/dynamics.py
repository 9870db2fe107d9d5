"""What a training writes down of each of its images after an epoch: its dynamics, which scores are made from.

Images are un-augmented, models in eval mode. One store a pool, an epoch at a time; a killed recording goes
on within its epoch. Nothing here touches the model in training or its random draws.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from robustprune.core.files import write_text
from robustprune.core.paths import dynamics_name
from robustprune.core.rows import Columns, compute_rows
from robustprune.core.settings import CrossEntropyAttack, Settings
from robustprune.scores.metric import Trajectory, evenly_spaced

if TYPE_CHECKING:
    import torch
    from torch import nn

    from robustprune.core.job import Job
    from robustprune.scores.store.writer import StoreWriter
    from robustprune.training.fit import Training
    from robustprune.training.model import ModelStage


DEFINITION = {"training.dynamics": 1}

STATE_FILE = "recording.json"

DTYPES = {"confidence": "float16", "error": "float16", "correct": "bool"}

"""What is recorded of an image: the probability of its label, the L2 norm of softmax - one-hot label, and whether the
largest logit is the label's."""


class Recorder:
    """Records a training's dynamics over every row of every pool it learns from.

    Args:
        job: the running stage; its batch size, checkpoints and ``partial/`` are used.
        spec: the model's spec.
        settings: what is recorded, and when.

    Attributes:
        after: the epochs, counted from 1, after which is recorded.
    """

    def __init__(self, job: Job, spec: ModelStage, settings: RecordingSettings) -> None:
        from robustprune.images.pool import open_pool

        self.job, self.spec, self.settings = job, spec, settings
        self.after = settings.recorded_after(spec.training.epochs)
        self.pools = {pool_id: open_pool(job.upstream("pools", pool_id)) for pool_id in spec.pools}
        self._done = self._load()

    @property
    def to_come(self) -> tuple[int, ...]:
        """Those of ``after`` that are not recorded of every pool yet."""
        return self.after[self._done // len(self.pools) :]

    def record(self, epoch: int, training: Training) -> None:
        """Record the state after ``epoch``, one of ``after``; nothing where an earlier attempt did.

        Raises:
            Interrupted: after a signal, with the finished rows saved.
        """
        copies: dict[str, Callable[[], nn.Module]] = {
            "raw": partial(copy.deepcopy, training.model),
            "averaged": training.average.averaged_model,
        }
        wanted = {_weights_of(trajectory) for trajectory in self.settings.trajectories}
        frozen = {name: copies[name]().eval().requires_grad_(False) for name in wanted}
        for number, pool_id in enumerate(self.spec.pools):
            task = self.after.index(epoch) * len(self.pools) + number
            if task == self._done:
                self._record_pool(epoch, pool_id, frozen)
                self._done = task + 1
                write_text(self.job.partial / STATE_FILE, json.dumps({"pools_recorded": self._done}))
                shutil.rmtree(self.job.partial / _blocks_of(epoch, pool_id))

    def publish(self) -> None:
        """State what the stores hold, and publish them, but for those that a killed attempt has published."""
        for pool_id, pool in self.pools.items():
            name = dynamics_name(pool_id)
            if (self.job.partial / name).is_dir():
                self._writer(pool_id).finish(
                    {
                        "pool": pool_id,
                        "pool_digest": pool.info.digest,
                        "model": self.spec.id,
                        "recorded_after": list(self.after),
                        "recording": self.settings.model_dump(mode="json"),
                    }
                )
            self.job.publish(name)

    def _record_pool(self, epoch: int, pool_id: str, models: dict[str, nn.Module]) -> None:
        blocks = compute_rows(
            self.job,
            len(self.pools[pool_id]),
            partial(self._observe, epoch, pool_id, models),
            what=f"recording epoch {epoch} of {self.spec.training.epochs}",
            name=_blocks_of(epoch, pool_id),
        )
        writer = self._writer(pool_id)
        for start, columns in self._shards(blocks):
            writer.write(columns, start=start, epoch=self.after.index(epoch))

    @staticmethod
    def _shards(blocks: Iterator[Columns]) -> Iterator[tuple[int, Columns]]:
        from robustprune.scores.store.layout import SHARD_ROWS
        from robustprune.scores.store.writer import recut

        return ((number * SHARD_ROWS, columns) for number, columns in enumerate(recut(blocks, SHARD_ROWS)))

    def _writer(self, pool_id: str) -> StoreWriter:
        from robustprune.scores.store.writer import StoreWriter

        dtypes = {f"{name}_{value}": dtype for name in self.settings.trajectories for value, dtype in DTYPES.items()}
        path = self.job.partial / dynamics_name(pool_id)
        return StoreWriter(path, dtypes, len(self.pools[pool_id]), epochs=len(self.after))

    def _observe(self, epoch: int, pool_id: str, models: dict[str, nn.Module], start: int, stop: int) -> Columns:
        import torch

        from robustprune.attacks.cross_entropy import attack_cross_entropy
        from robustprune.attacks.inputs import as_inputs

        columns: Columns = {}
        images, labels = as_inputs(self.pools[pool_id], start, stop, self.job.device)
        for trajectory in self.settings.trajectories:
            model, seen = models[_weights_of(trajectory)], images
            if trajectory.startswith("adversarial"):
                assert self.spec.threat is not None
                seen = attack_cross_entropy(
                    model,
                    images,
                    labels,
                    torch.arange(start, stop),
                    attack=self.settings.attack,
                    threat=self.spec.threat,
                    seed=self.spec.seed,
                    purpose=f"recording {self.spec.pools.index(pool_id)} {epoch}",
                )
            columns |= {f"{trajectory}_{name}": value for name, value in observe(model, seen, labels).items()}
        return columns

    def _load(self) -> int:
        """Pools that earlier attempts have recorded, epoch after epoch."""
        path = self.job.partial / STATE_FILE
        return int(json.loads(path.read_text())["pools_recorded"]) if path.is_file() else 0


class RecordingSettings(Settings):
    """Settings of what is recorded of each image, un-augmented, after an epoch. See papers.md, P13."""

    epochs: int | None = Field(
        None, ge=1, description="epochs recorded, evenly spaced, the last among them; null for every one"
    )
    trajectories: tuple[Trajectory, ...] = Field(
        ("clean", "adversarial", "clean_averaged"),
        min_length=1,
        description="clean | adversarial: by the raw weights; clean_averaged | adversarial_averaged: by the average",
    )
    attack: CrossEntropyAttack = Field(
        CrossEntropyAttack(steps=10, step=0.25), description="the attack on the model in training (Nieth et al.)"
    )

    @property
    def attacks(self) -> bool:
        """True if images are attacked for it."""
        return any(name.startswith("adversarial") for name in self.trajectories)

    def without_attack(self) -> RecordingSettings:
        """The same for a model that is not trained adversarially."""
        clean = tuple(name for name in self.trajectories if name.startswith("clean"))
        return self.model_copy(update={"trajectories": clean})

    def recorder(self, job: Job, spec: ModelStage) -> Recorder:
        """Return the recorder of a training."""
        return Recorder(job, spec, self)

    def recorded_after(self, epochs: int) -> tuple[int, ...]:
        """After which epochs of a training, counted from 1, it is recorded. Raises ValueError for too few epochs."""
        return evenly_spaced(epochs, self.epochs or epochs)


def _blocks_of(epoch: int, pool_id: str) -> str:
    return f"recording-{epoch}-{pool_id}"


def _weights_of(trajectory: Trajectory) -> str:
    return trajectory.partition("_")[2] or "raw"


def observe(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Columns:
    """Return what a model says of some images, as ``DTYPES`` has it.

    Args:
        model: gives (N, K) logits, in eval mode.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64.
    """
    import torch
    from torch.nn import functional as F

    with torch.no_grad():
        logits = model(images).float()
    probabilities = logits.softmax(1)
    error = probabilities - F.one_hot(labels, logits.shape[1])
    return {
        "confidence": probabilities.gather(1, labels[:, None]).squeeze(1).half().cpu().numpy(),
        "error": error.norm(dim=1).half().cpu().numpy(),
        "correct": (logits.argmax(1) == labels).cpu().numpy(),
    }
