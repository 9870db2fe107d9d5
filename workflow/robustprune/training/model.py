"""The stage that trains a model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from robustprune.core.errors import UserError
from robustprune.core.files import replacing
from robustprune.core.job import Job
from robustprune.core.paths import HISTORY_FILE
from robustprune.core.settings import ThreatModel
from robustprune.core.stage import ManifestId, PoolId, slug_of
from robustprune.core.stage_file import read_spec
from robustprune.core.work import Work, weights_bytes
from robustprune.networks.classifier import ClassifierStage
from robustprune.training.dynamics import RecordingSettings
from robustprune.training.mid_training import MidTraining
from robustprune.training.online import OnlinePuma
from robustprune.training.recipes.base import AdversarialRecipe, AnyRecipe, problem_of_processes

if TYPE_CHECKING:
    from robustprune.core.team import Team
    from robustprune.planning.plan import Plan
    from robustprune.pruning.prune import ManifestStage
    from robustprune.training.dynamics import Recorder
    from robustprune.training.fit import Training
    from robustprune.training.trainset import KeptImages


logger = logging.getLogger(__name__)


RECORDED_BYTES = 2 + 2 + 1  # confidence, error, correct, before compression


class ModelStage(ClassifierStage):
    """A classifier trained on whole pools or on what a manifest keeps of them; its course is recorded where asked."""

    origin: Literal["trained"] = "trained"
    real: PoolId
    synthetic: PoolId | None
    manifest: ManifestId | None
    training: AnyRecipe
    mid_training: MidTraining | None = None
    online: OnlinePuma | None = None
    seed: int = Field(ge=0)
    recording: RecordingSettings | None = None
    threat: ThreatModel | None = Field(description="null, whatever is given, where nothing is attacked")

    @field_validator("threat")
    @classmethod
    def _of_what_is_attacked(cls, threat: ThreatModel | None, info: ValidationInfo) -> ThreatModel | None:
        recipe, midway, recording = (info.data.get(name) for name in ("training", "mid_training", "recording"))
        scored = midway is not None and midway.strategy != "random" and midway.at == "adversarial"
        recorded = recording is not None and recording.attacks
        attacked = recipe is not None and recipe.attacks
        return threat if attacked or scored or recorded else None

    @property
    def slug(self) -> str:
        pruning = () if self.manifest is None else (slug_of(self.manifest),)
        recorded = () if self.recording is None else ("recorded",)
        midway = () if self.mid_training is None else ("midway", self.mid_training.strategy)
        online = () if self.online is None else ("online",)
        words = (*pruning, *midway, *online, *recorded, self.training.recipe, self.architecture, f"seed{self.seed}")
        return "-".join(word.replace("_", "") for word in words)

    @property
    def pools(self) -> tuple[str, ...]:
        """Ids of the pools it learns from, the real one first."""
        return (self.real,) if self.synthetic is None else (self.real, self.synthetic)

    def works(self, plan: Plan) -> tuple[Work, ...]:
        """Return what the steps cost, in the recipe's arithmetic, and what is done beside them, in float32."""
        beside = Work(self.network()) + self._validations() + self._recordings(plan) + self._pruning_midway(plan)
        return self._steps(plan), beside

    def bytes_left(self, plan: Plan, parameters: Mapping[str, int]) -> int:
        """Return the size of the weights (averaged, raw, best) and of the recordings."""
        files = 3 if self.training.validates else 2
        weights, recording = files * weights_bytes(self.network(), parameters), self.recording
        if recording is None:
            return weights
        rows = sum(plan.count(pool) for pool in self.pools) * (recording.epochs or self.training.epochs)
        return weights + len(recording.trajectories) * rows * RECORDED_BYTES

    def _steps(self, plan: Plan) -> Work:
        recipe = self.training
        gradients, updates = recipe.gradients_of_image, recipe.updates_of_image
        image = Work(self.network(recipe.precision), gradients=gradients, updates=updates)
        if self.online is not None:
            image += Work(forwards=self.online.forwards)
        return image * self.images_learnt_from(plan)

    def images_learnt_from(self, plan: Plan) -> int:
        """Return the number of images in all steps together, those drawn again counted again."""
        recipe, midway = self.training, self.mid_training
        if recipe.epoch_images is not None:
            return recipe.epochs * recipe.steps_per_epoch(0) * recipe.batch_size
        manifest = cast("ManifestStage", plan.stages[self.manifest]) if self.manifest else None
        kept = manifest.share_of_real_kept if manifest else 1.0
        an_epoch = (plan.count(self.real) - recipe.held_out_images) * kept
        epochs = midway.after_epoch + (recipe.epochs - midway.after_epoch) * midway.keep if midway else recipe.epochs
        return round(an_epoch * epochs)

    def _validations(self) -> Work:
        recipe = self.training
        if not recipe.validates:
            return Work()
        image = Work(forwards=1)
        if isinstance(recipe, AdversarialRecipe):
            image += Work(forwards=1, gradients=recipe.validation_steps)
        return image * (-(-recipe.epochs // recipe.validate_every) * recipe.validation_images)

    def _recordings(self, plan: Plan) -> Work:
        recording = self.recording
        if recording is None:
            return Work()
        adversarial = sum(name.startswith("adversarial") for name in recording.trajectories)
        image = Work(forwards=len(recording.trajectories), gradients=adversarial * recording.attack.steps)
        rows = sum(plan.count(pool) for pool in self.pools)
        return image * ((recording.epochs or self.training.epochs) * rows)

    def _pruning_midway(self, plan: Plan) -> Work:
        if self.mid_training is None or self.mid_training.strategy == "random":
            return Work()
        return self.mid_training.image_work * sum(plan.count(pool) for pool in self.pools)

    def run(self, job: Job) -> dict[str, Any]:
        """Train, and publish the history, the weights (averaged, raw, best) and the recordings.

        Returns:
            training_seconds (over all attempts) and what took its time beside, images_kept (in the last epoch), how a
            batch is composed and shared among processes, of which images BatchNorm took statistics, and where the
            recipe validates, the best epoch and (where it attacks) that of catastrophic overfitting.

        Raises:
            UserError: when pools or manifest do not fit, or the loss is not finite.
            Interrupted: after a signal, with a checkpoint saved.
        """
        from robustprune.core.team import team_of
        from robustprune.training.trainset import load_training_images

        kept = load_training_images(job, self)
        synthetic = self.training.synthetic_in_batch
        if synthetic and self.synthetic is None:
            raise UserError(
                f"training.{self.training.recipe}.synthetic_fraction = {self.training.synthetic_fraction}, "
                "but there is no synthetic pool"
            )
        _warn_of_unused_radii(self, kept)
        _refuse_to_prune_all(self, kept)
        _refuse_team(job, self)
        with team_of(job, follow) as team:
            return _train(job, self, kept, team)


def follow(job: Job, team: Team) -> None:
    """Train along with the process that runs the stage."""
    from robustprune.training.fit import Training
    from robustprune.training.trainset import load_training_images

    spec = read_spec(job.directory)
    assert isinstance(spec, ModelStage)
    Training(job, spec, load_training_images(job, spec), team).follow()


def _train(job: Job, spec: ModelStage, kept: list[KeptImages], team: Team) -> dict[str, Any]:
    from robustprune.networks.weights import BEST_FILE, RAW_FILE, WEIGHTS_FILE, save_weights
    from robustprune.training.fit import Training

    training = Training(job, spec, kept, team)
    synthetic = spec.training.synthetic_in_batch
    recorder = None if spec.recording is None else spec.recording.recorder(job, spec)
    if recorder is not None:
        for epoch in recorder.to_come:
            training.run(until=training.clock.end_of(epoch))
            _record(recorder, epoch, training)
    training.run()
    save_weights(training.average.state_dict(), job.partial / WEIGHTS_FILE)
    save_weights(training.model.state_dict(), job.partial / RAW_FILE)
    with replacing(job.partial / HISTORY_FILE) as temporary:
        training.history_table().to_parquet(temporary, index=False)
    job.publish(WEIGHTS_FILE, RAW_FILE, HISTORY_FILE)
    if recorder is not None:
        recorder.publish()
    if training.best:
        save_weights(training.best["weights"], job.partial / BEST_FILE)
        job.publish(BEST_FILE)
    if spec.mid_training is not None:
        spec.mid_training.publish(job)
    return {
        "training_seconds": round(training.seconds, 3),
        **{f"{name}_seconds": round(seconds, 3) for name, seconds in training.apart.items()},
        **_validated(training),
        "steps": training.step,
        "images_kept": _images_kept(training),
        "real_in_batch": spec.training.batch_size - synthetic,
        "synthetic_in_batch": synthetic,
        "processes": team.size,
        "compiled": training.compiled,
        "batchnorm": _statistics(training),
    }


def _images_kept(training: Training) -> int | None:
    """In the last epoch. None where images of two pools were pruned online: the share pruned is of what was drawn."""
    pruned = training.history[-1].get("pruned", 0.0)
    if pruned and len(training.kept) > 1:
        return None
    return round(sum(len(images) for images in training.kept) * (1 - pruned))


def _record(recorder: Recorder, epoch: int, training: Training) -> None:
    """Record the state after an epoch, and save how long it took, also where a signal breaks it off."""
    try:
        with training.timed_apart("recording"):
            recorder.record(epoch, training)
    finally:
        training.save()


def _refuse_team(job: Job, spec: ModelStage) -> None:
    """Refuse a job with other processes than were planned with."""
    if (problem := problem_of_processes(spec.training, job.execution.processes)) is not None:
        raise UserError(problem)


def _statistics(training: Training) -> str | None:
    """Return of which images BatchNorm took its statistics, for the record."""
    from robustprune.networks.precision import has_batchnorm

    if not has_batchnorm(training.model):
        return None
    shares = training.spec.training.batchnorm_shares
    if shares > 1:
        return f"local, of each of {shares} shares of a batch"
    return "of the whole batch" + (", synchronised" if training.team.size > 1 else "")


def _warn_of_unused_radii(spec: ModelStage, kept: list[KeptImages]) -> None:
    if not spec.training.attacks and len(np.unique(np.concatenate([own.epsilon for own in kept]))) > 1:
        logger.warning("recipe standard attacks nothing, so the radii of %s are not used", spec.manifest)


def _refuse_to_prune_all(spec: ModelStage, kept: list[KeptImages]) -> None:
    if spec.mid_training is None:
        return
    for pool_id, images in zip(spec.pools, kept, strict=True):
        if spec.mid_training.dropped(len(images)) == len(images):
            raise UserError(
                f"mid_training.keep = {spec.mid_training.keep} keeps none of the {len(images)} images of {pool_id}"
            )


def _validated(training: Training) -> dict[str, Any]:
    from robustprune.training.validation import PGD, catastrophic_overfitting_epoch

    if not training.best:
        return {}
    facts = {"best_epoch": training.best["epoch"], "best_accuracy": training.best["accuracy"]}
    if training.validation.criterion == PGD:
        facts["catastrophic_overfitting_epoch"] = catastrophic_overfitting_epoch(training.history)
    return facts
