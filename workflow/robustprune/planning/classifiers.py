"""Plans classifiers that saw no generated image: brought in, or trained on the real images alone."""

from robustprune.core.errors import UserError
from robustprune.images.sources import checkpoint_file
from robustprune.planning.config import Config
from robustprune.planning.stages import Stages
from robustprune.training.specs import ImportedModelStage, ModelStage


class Classifiers:
    """The classifiers that a configuration has without its generated images.

    Args:
        config: the configuration.
        stages: where they are added.
        train: id of the real images.
    """

    def __init__(self, config: Config, stages: Stages, train: str) -> None:
        self.config = config
        self.stages = stages
        self.train = train

    def imported(self, name: str) -> str:
        """One of the configured checkpoints. Raises UserError for another name."""
        config = self.config
        if name not in config.checkpoints:
            known = ", ".join(config.checkpoints) or "none"
            raise UserError(f"a row names the checkpoint {name!r}, which is not one of the configured ones: {known}")
        checkpoint = config.checkpoints[name]
        return self.stages.add(
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

    def independent(self, checkpoint: str | None, *, seed: int) -> str:
        """A checkpoint, or where None is named, a model trained by ``training.standard`` on the real images."""
        if checkpoint is not None:
            return self.imported(checkpoint)
        config = self.config
        return self.stages.add(
            ModelStage(
                architecture=config.architecture,
                classes=config.data.classes,
                image_shape=config.data.image_shape,
                real=self.train,
                synthetic=None,
                manifest=None,
                threat=config.threat,
                training=config.training.standard.model_copy(update={"synthetic_fraction": 0.0}),
                seed=seed,
            )
        )
