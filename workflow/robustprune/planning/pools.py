"""Plans pools, and the generators that some are drawn from."""

from robustprune.config import Config
from robustprune.errors import UserError
from robustprune.planning.stages import Stages
from robustprune.settings import AnyRecipe
from robustprune.sources import real_source, synthetic_source
from robustprune.specs import FileSource, GeneratedPoolSpec, GeneratorSpec, IngestedPoolSpec


class Pools:
    """The images that a configuration has."""

    def __init__(self, config: Config, stages: Stages) -> None:
        self.config = config
        self.stages = stages
        self.train = self.real("train")

    def of(self, recipe: AnyRecipe) -> tuple[str, ...]:
        """The pools a recipe learns from, the real one first."""
        if recipe.synthetic_in_batch == 0:
            return (self.train,)
        if self.config.synthetic.source == "none":
            raise UserError(
                f"synthetic.source = none, but training.{recipe.recipe}.synthetic_fraction = "
                f"{recipe.synthetic_fraction}; set it to 0"
            )
        return (self.train, self.synthetic())

    def real(self, split: str) -> str:
        """The real images of a split."""
        data = self.config.data
        return self.stages.add(
            IngestedPoolSpec(
                dataset=data.name,
                split=split,
                classes=data.classes,
                image_shape=data.image_shape,
                source=real_source(data.source, name=data.name, split=split),
            )
        )

    def synthetic(self) -> str:
        """The generated images that trainings learn from."""
        synthetic = self.config.synthetic
        if synthetic.source != "generate":
            return self._ready_made(synthetic_source(synthetic.source))
        return self._drawn(synthetic.count, seed=synthetic.sampler.seed)

    def extrapolation_source(self) -> str:
        """Generated images that are scored directly: other ones than those of the synthetic pool."""
        config = self.config
        source = config.extrapolation.source
        if source != "generate":
            return self._ready_made(synthetic_source(source, setting="extrapolation.source"))
        if config.synthetic.source != "generate":
            raise UserError(
                f"extrapolation.source = generate, but synthetic.source = {config.synthetic.source}, so there is no "
                "generator to draw from; name a file or none"
            )
        return self._drawn(config.extrapolation.source_images, seed=config.synthetic.sampler.seed + 1)

    def _ready_made(self, source: FileSource) -> str:
        data = self.config.data
        return self.stages.add(
            IngestedPoolSpec(
                dataset=data.name,
                split="synthetic",
                classes=data.classes,
                image_shape=data.image_shape,
                source=source,
            )
        )

    def _drawn(self, count: int, *, seed: int) -> str:
        data, synthetic = self.config.data, self.config.synthetic
        generator = self.stages.add(
            GeneratorSpec(
                dataset=data.name,
                pool=self.train,
                classes=data.classes,
                image_shape=data.image_shape,
                settings=synthetic.generator,
            )
        )
        return self.stages.add(
            GeneratedPoolSpec(
                dataset=data.name,
                generator=generator,
                classes=data.classes,
                image_shape=data.image_shape,
                count=count,
                sampler=synthetic.sampler.model_copy(update={"seed": seed}),
            )
        )
