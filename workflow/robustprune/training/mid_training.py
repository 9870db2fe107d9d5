"""Pruning in the middle of a training, by what the half-trained model says of each image (Kaufmann et al.).

Their Algorithm 1 with its slips mended (papers.md, K1, K3, K4): after an epoch every image is scored once,
un-augmented, by the raw model in eval mode, and a share of each pool is kept for the epochs that follow.
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from robustprune.attacks.deepfool_settings import Box, DeepFoolSettings, DeepFoolTarget
from robustprune.core.files import replacing
from robustprune.core.paths import MID_TRAINING_FILE
from robustprune.core.rows import Columns, collect, compute_rows
from robustprune.core.settings import CrossEntropyAttack, Settings
from robustprune.core.work import Work
from robustprune.training.recipes.rs_fgsm import RsFgsmRecipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustprune.core.job import Job
    from robustprune.training.model import ModelStage
    from robustprune.training.recipes.base import AnyRecipe
    from robustprune.training.trainset import KeptImages


DEFINITION = {"training.mid_training": 2}


SCORES_FOLDER = "midway"  # and a pool: blocks of scores in ``partial/``

CHOICE_FILE = "choice.parquet"  # the same in ``partial/``, where a resumed training looks for it until the end

LONG_STEP = 1.25  # of the RS-FGSM step, in units of epsilon, where another recipe trains

DEEPFOOL = DeepFoolSettings(  # all that decides numbers, since a spec does not hold it
    max_steps=50, overshoot=0.02, candidates=None, slope_ratio=1.75, bisection_steps=0, negative="unsigned"
)

SCORED_AT_ONCE = 500  # images; fixed, as the rounding of a model's arithmetic may depend on it

EASY: dict[str, Literal["high", "low"]] = {"loss": "low", "deepfool": "high"}


DEEPFOOL_GRADIENTS = 10  # an image, as is usual: an estimate


class MidTraining(Settings):
    """Pruning in the middle of a training (Kaufmann et al.)."""

    after_epoch: int = Field(1, ge=1, description="epochs trained on everything before")
    keep: float = Field(gt=0, le=1, description="share of each pool's images that is kept")
    strategy: Literal[
        "random", "low_distance", "high_distance", "low_high_distance", "low_loss", "high_loss", "low_high_loss_literal"
    ] = Field(description="which images are dropped; see docs/pruning.md")
    score: Literal["loss", "deepfool"] = Field(
        "loss", description="loss, whose inverse is the distance; deepfool, the L2 distance to the boundary, unsigned"
    )
    target: DeepFoolTarget = "rechosen"
    box: Box = True
    at: Literal["adversarial", "clean"] = Field(
        "adversarial",
        description="whether images are scored after an RS-FGSM step or as they are, as they are by default for "
        "deepfool (papers.md, K3, K4)",
    )

    @model_validator(mode="before")
    @classmethod
    def _deepfool_starts_at_the_image(cls, values: Any) -> Any:
        by_deepfool = isinstance(values, dict) and values.get("score") == "deepfool"
        return {"at": "clean", **values} if by_deepfool else values

    @model_validator(mode="after")
    def _scores_are_used(self) -> MidTraining:
        if self.strategy == "random" and (self.score, self.at) != ("loss", "adversarial"):
            raise ValueError(
                f"strategy = random scores no image, so score = {self.score} and at = {self.at} would change nothing"
            )
        return self

    @model_validator(mode="after")
    def _target_is_used(self) -> MidTraining:
        if self.score != "deepfool" and (self.target == "fixed" or not self.box):
            key = "box = false" if not self.box else "target = fixed"
            raise ValueError(f"{key} needs score = deepfool, not {self.score}")
        return self

    @property
    def image_work(self) -> Work:
        """Passes of an image that is scored: DeepFool's as is usual, or one, and the step of the attack before it."""
        scored = Work(gradients=DEEPFOOL_GRADIENTS) if self.score == "deepfool" else Work(forwards=1)
        return scored + Work(gradients=int(self.at == "adversarial"))

    def dropped(self, images: int) -> int:
        """Return how many of so many images of a pool are dropped."""
        return round((1 - self.keep) * images)

    def prune(self, job: Job, spec: ModelStage, model: nn.Module, kept: list[KeptImages]) -> list[KeptImages]:
        """Return the images to train on from here on, of those trained on so far.

        Scores and choice are written down: pool, index, score (NaN where chance decides), kept. What a killed attempt
        has written is believed, and of its scores none is measured again but the last minute's.

        Args:
            job: the running stage.
            spec: the model in training.
            model: the raw model; a copy of it is scored with.
            kept: the images trained on so far, of each pool.

        Raises:
            Interrupted: after a signal, with the scores so far saved.
            UserError: when nothing is left of a pool, or of a member with a share of its own.
        """
        import pandas as pd

        from robustprune.training.trainset import refuse_empty

        path = job.partial / CHOICE_FILE
        if not path.is_file():
            _write(path, spec, kept, *_choose(job, spec, self, model, kept))
            for folder in job.partial.glob(f"{SCORES_FOLDER}-*"):
                shutil.rmtree(folder)
        table = pd.read_parquet(path, columns=["pool", "kept"])
        left = [
            images.at(np.flatnonzero(table["kept"][table["pool"] == pool]))
            for pool, images in zip(spec.pools, kept, strict=True)
        ]
        refuse_empty(spec, left, advice=f"raise mid_training.keep = {self.keep}")
        return left

    def publish(self, job: Job) -> None:
        """Publish mid_training.parquet."""
        with replacing(job.partial / MID_TRAINING_FILE) as temporary:
            shutil.copyfile(job.partial / CHOICE_FILE, temporary)
        job.publish(MID_TRAINING_FILE)


def _choose(
    job: Job, spec: ModelStage, settings: MidTraining, model: nn.Module, kept: list[KeptImages]
) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.int64]]:
    """Scores of all images, pool after pool, and the positions of those that stay."""
    from robustprune.pruning.candidates import Candidates
    from robustprune.pruning.strategies import choose

    counts = tuple(len(images) for images in kept)
    candidates = Candidates(
        pools=spec.pools,
        first=(0,) * len(counts),
        counts=counts,
        labels=np.concatenate([images.pool.labels[images.rows] for images in kept]),
    )
    score = None
    if settings.strategy != "random":
        frozen = copy.deepcopy(model).eval().requires_grad_(False)
        score = np.concatenate(
            [
                _scores(job, spec, settings, frozen, images, name=f"{SCORES_FOLDER}-{pool}")
                for pool, images in zip(spec.pools, kept, strict=True)
            ]
        )
        candidates = candidates.scored(score, EASY[settings.score])
    dropped = {pool: settings.dropped(count) for pool, count in zip(spec.pools, counts, strict=True)}
    return score, choose(candidates, strategy=settings.strategy, drop=dropped, per="source", seed=spec.seed)


def _scores(
    job: Job, spec: ModelStage, settings: MidTraining, model: nn.Module, kept: KeptImages, *, name: str
) -> npt.NDArray[np.float32]:
    """(M,) loss or DeepFool's L2 distance of each kept image, clean or after an RS-FGSM step of its own."""
    import torch

    from robustprune.attacks.inputs import inputs_at

    def compute(start: int, stop: int) -> Columns:
        rows = kept.rows[start:stop]
        images, labels = inputs_at(kept.pool, rows, job.device)
        if settings.at == "adversarial":
            images = _step_of_rs_fgsm(spec, model, images, labels, torch.from_numpy(rows))
        return {"score": _score(settings, model, images, labels).cpu().numpy().astype(np.float32)}

    blocks = compute_rows(
        job,
        len(kept),
        compute,
        what=f"scoring after epoch {settings.after_epoch} of {spec.training.epochs}",
        batch_size=SCORED_AT_ONCE,
        name=name,
    )
    return np.asarray(collect(blocks)["score"])


def _step_of_rs_fgsm(spec: ModelStage, model: nn.Module, images: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
    from robustprune.attacks.cross_entropy import attack_cross_entropy

    attack, clip_start = _rs_fgsm(spec.training)
    assert spec.threat is not None
    return attack_cross_entropy(
        model,
        images,
        labels,
        ids,
        attack=attack,
        threat=spec.threat,
        seed=spec.seed,
        purpose="mid training",
        clip_start=clip_start,
    )


def _rs_fgsm(recipe: AnyRecipe) -> tuple[CrossEntropyAttack, bool]:
    """The step before scoring, and whether its start is clipped: the recipe's own, where it is RS-FGSM."""
    if isinstance(recipe, RsFgsmRecipe):
        return CrossEntropyAttack(steps=1, step=recipe.step_scale), recipe.clip_start
    return CrossEntropyAttack(steps=1, step=LONG_STEP), True


def _score(settings: MidTraining, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    from robustprune.attacks.cross_entropy import losses
    from robustprune.attacks.margins import signed_margins
    from robustprune.attacks.norms import norm_named

    if settings.score == "loss":
        return losses(model, images, labels)
    deepfool = DEEPFOOL.model_copy(update={"target": settings.target, "box": settings.box})
    return signed_margins(
        model, images, labels, settings=deepfool, norm=norm_named("L2"), batch_size=SCORED_AT_ONCE
    ).margin


def _write(
    path: Path,
    spec: ModelStage,
    kept: list[KeptImages],
    score: npt.NDArray[np.float32] | None,
    stay: npt.NDArray[np.int64],
) -> None:
    import pandas as pd

    rows = np.concatenate([images.rows for images in kept])
    pools = np.repeat(np.arange(len(kept)), [len(images) for images in kept])
    table = pd.DataFrame(
        {
            "pool": pd.Categorical.from_codes(pools, categories=pd.Index(spec.pools)),
            "index": rows,
            "score": np.full(len(rows), np.nan, np.float32) if score is None else score,
            "kept": np.isin(np.arange(len(rows)), stay),
        }
    )
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)
