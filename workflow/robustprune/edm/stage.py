"""The stage that trains a generator on a real pool."""

from typing import Any

from robustprune.edm.training import GeneratorTraining
from robustprune.errors import UserError
from robustprune.files import replacing
from robustprune.job import Job
from robustprune.models.checkpoint import WEIGHTS_FILE, save_weights
from robustprune.pools.format import PoolInfo, open_pool
from robustprune.specs import GeneratorSpec

HISTORY_FILE = "history.parquet"


def run(job: Job, spec: GeneratorSpec) -> dict[str, Any]:
    """Train an EDM and publish its averaged weights and its history.

    Returns:
        training_seconds (over all attempts), steps, images_seen, parameters and loss (mean of the last steps).

    Raises:
        UserError: when the pool does not fit the spec, the network does not fit the images, or the loss is not finite.
        Interrupted: after a signal, with a checkpoint saved.
    """
    pool = open_pool(job.upstream("pools", spec.pool))
    _require_fit(spec, pool.info)
    training = GeneratorTraining(job, spec, pool)
    training.run()
    save_weights(training.average.state_dict(), job.partial / WEIGHTS_FILE)
    with replacing(job.partial / HISTORY_FILE) as temporary:
        training.history_table().to_parquet(temporary, index=False)
    job.publish(WEIGHTS_FILE, HISTORY_FILE)
    return {
        "training_seconds": round(training.seconds, 3),
        "steps": training.step,
        "images_seen": training.step * spec.settings.batch_size,
        "parameters": sum(parameter.numel() for parameter in training.network.parameters()),
        "loss": training.history[-1]["loss"],
    }


def _require_fit(spec: GeneratorSpec, info: PoolInfo) -> None:
    if info.image_shape != spec.image_shape or info.classes != spec.classes:
        raise UserError(
            f"pool {spec.pool} has images of shape {info.image_shape} in {info.classes} classes, but the generator is "
            f"for {spec.image_shape} in {spec.classes}"
        )
