"""The stage that trains a generator on a real pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from robustprune.core.errors import UserError
from robustprune.core.files import replacing
from robustprune.core.job import Job
from robustprune.core.settings import Precision
from robustprune.core.stage import ImageShape, PoolId, Stage
from robustprune.core.stage_file import read_spec
from robustprune.core.work import Work, weights_bytes
from robustprune.generation.settings import GeneratorSettings

if TYPE_CHECKING:
    from robustprune.core.team import Team
    from robustprune.images.pool import PoolInfo
    from robustprune.planning.plan import Plan


HISTORY_FILE = "history.parquet"


class GeneratorStage(Stage):
    """An EDM trained on a real pool."""

    sentence = "a diffusion model (EDM) that learnt from real images, and from which more are drawn"
    kind: Literal["generators"] = "generators"
    dataset: str
    pool: PoolId
    classes: int
    image_shape: ImageShape
    settings: GeneratorSettings

    @property
    def slug(self) -> str:
        return f"edm-{self.dataset}"

    def network(self, precision: Precision) -> str:
        """Return what decides how fast the network is, in words."""
        settings, shape = self.settings, "x".join(map(str, self.image_shape))
        channels = "-".join(str(settings.base_channels * factor) for factor in settings.channel_multipliers)
        attention = "-".join(map(str, settings.attention_resolutions)) or "none"
        blocks = f"{settings.blocks} blocks, attention {attention}, patch {settings.patch}"
        words = f"edm of {channels} channels, {blocks}, {shape}"
        return words if precision == "float32" else f"{words}, {precision}"

    def works(self, plan: Plan) -> tuple[Work, ...]:
        """Return the updates of all steps."""
        settings = self.settings
        return (Work(self.network(settings.precision), updates=settings.steps * settings.batch_size),)

    def bytes_left(self, plan: Plan, parameters: Mapping[str, int]) -> int:
        """Return the size of the averaged weights."""
        return weights_bytes(self.network(self.settings.precision), parameters)

    def run(self, job: Job) -> dict[str, Any]:
        """Train an EDM and publish its averaged weights and its history.

        Returns:
            training_seconds (over all attempts), steps, images_seen, parameters, loss (mean of the last steps) and the
            number of processes that shared each batch.

        Raises:
            UserError: when the pool does not fit the self, the network does not fit the images, or the loss is not
            finite. Interrupted: after a signal, with a checkpoint saved.
        """
        from robustprune.core.team import team_of
        from robustprune.generation.training import GeneratorTraining
        from robustprune.images.pool import open_pool
        from robustprune.networks.weights import WEIGHTS_FILE, save_weights

        pool = open_pool(job.upstream("pools", self.pool))
        _require_fit(self, pool.info)
        with team_of(job, follow) as team:
            training = GeneratorTraining(job, self, pool, team)
            training.run()
        save_weights(training.average.state_dict(), job.partial / WEIGHTS_FILE)
        with replacing(job.partial / HISTORY_FILE) as temporary:
            training.history_table().to_parquet(temporary, index=False)
        job.publish(WEIGHTS_FILE, HISTORY_FILE)
        return {
            "training_seconds": round(training.seconds, 3),
            "steps": training.step,
            "images_seen": training.step * self.settings.batch_size,
            "parameters": sum(parameter.numel() for parameter in training.network.parameters()),
            "loss": training.history[-1]["loss"],
            "processes": team.size,
        }


def follow(job: Job, team: Team) -> None:
    """Train along with the process that runs the stage."""
    from robustprune.generation.training import GeneratorTraining
    from robustprune.images.pool import open_pool

    spec = read_spec(job.directory)
    assert isinstance(spec, GeneratorStage)
    GeneratorTraining(job, spec, open_pool(job.upstream("pools", spec.pool)), team).follow()


def _require_fit(spec: GeneratorStage, info: PoolInfo) -> None:
    if info.image_shape != spec.image_shape or info.classes != spec.classes:
        raise UserError(
            f"pool {spec.pool} has images of shape {info.image_shape} in {info.classes} classes, but the generator is "
            f"for {spec.image_shape} in {spec.classes}"
        )
