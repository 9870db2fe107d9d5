"""Plan classifiers that saw no generated image: imported ones, or one trained on the real images alone."""

from typing import TYPE_CHECKING

from robustprune.core.errors import UserError
from robustprune.networks.imported import ImportedModelStage, checkpoint_file
from robustprune.training.model import ModelStage

if TYPE_CHECKING:
    from robustprune.planning.context import Context


def imported_model(context: "Context", name: str) -> str:
    """One of the configured checkpoints. Raises UserError for another name."""
    config = context.config
    if name not in config.checkpoints:
        known = ", ".join(config.checkpoints) or "none"
        raise UserError(f"a row names the checkpoint {name!r}, which is not one of the configured ones: {known}")
    checkpoint = config.checkpoints[name]
    return context.add(
        ImportedModelStage(
            architecture=checkpoint.architecture,
            classes=config.data.classes,
            image_shape=config.data.image_shape,
            digest=checkpoint.sha256,
            entry=checkpoint.entry,
            normalization=checkpoint.normalization,
            location=checkpoint_file(name, checkpoint),
        )
    )


def independent_classifier(context: "Context", checkpoint: str | None, *, seed: int) -> str:
    """A checkpoint, or where None is named, a model trained by ``training.standard`` on the real images."""
    if checkpoint is not None:
        return imported_model(context, checkpoint)
    config = context.config
    return context.add(
        ModelStage(
            architecture=config.architecture,
            classes=config.data.classes,
            image_shape=config.data.image_shape,
            real=context.train,
            synthetic=None,
            manifest=None,
            threat=config.threat,
            training=config.training.standard.model_copy(update={"synthetic_fraction": 0.0}),
            seed=seed,
        )
    )
