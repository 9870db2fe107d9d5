"""Plans pools, and the generators that some are drawn from."""

from collections.abc import Mapping
from itertools import combinations
from typing import TypeVar

from robustprune.core.errors import UserError
from robustprune.images.classes.specs import ClassListStage
from robustprune.images.settings import PICTURE_FORMATS
from robustprune.images.sources import hierarchy_file, real_source, synset_folder, synthetic_source
from robustprune.images.specs import (
    FileSource,
    GeneratedPoolStage,
    GeneratorStage,
    IngestedPoolStage,
    SelectedPoolStage,
    SubsetPoolStage,
    SynsetPoolStage,
    UnionPart,
    UnionPoolStage,
)
from robustprune.planning.classifiers import Classifiers
from robustprune.planning.config import Config
from robustprune.planning.stages import Stages, rows_of
from robustprune.scores.specs import LossScoreStage
from robustprune.training.settings import AnyRecipe

T = TypeVar("T")


class Pools:
    """The images that a configuration has.

    Args:
        config: the configuration.
        stages: where stages are put.
        root: the pools of the user's own configuration, whose files are the same: to look at them takes long.
    """

    def __init__(self, config: Config, stages: Stages, root: "Pools | None" = None) -> None:
        self.config = config
        self.stages = stages
        self._real: dict[str, str] = root._real if root else {}
        self._files: dict[str, FileSource] = root._files if root else {}
        self.train = self.real("train")
        # What a row changes for its own models must not change which images a selection has.
        self.classifiers: Classifiers = root.classifiers if root else Classifiers(config, stages, self.train)

    def of(self, recipe: AnyRecipe) -> tuple[str, ...]:
        """The pools a recipe learns from, the real one first, where it learns from real images."""
        trained_on = self.config.data.trained_on
        if trained_on in ("synthetic", "source"):
            return (self.synthetic() if trained_on == "synthetic" else self.extrapolation_source(),)
        if recipe.synthetic_in_batch == 0 or trained_on == "real":
            return (self.train,)
        if trained_on == "real_and_source":
            return (self.train, self.extrapolation_source())
        if self.config.synthetic.source == "none":
            raise UserError(
                f"synthetic.source = none, but training.{recipe.recipe}.synthetic_fraction = "
                f"{recipe.synthetic_fraction}; set it to 0"
            )
        return (self.train, self.synthetic())

    def real(self, split: str) -> str:
        """The real images of a split."""
        if split not in self._real:
            self._real[split] = self._plan_real(split)
        return self._real[split]

    def _plan_real(self, split: str) -> str:
        data = self.config.data
        form, _, place = data.source.partition(":")
        if form == "imagenet21k":
            return self._of_synsets(split, place)
        return self.stages.add(
            IngestedPoolStage(
                dataset=data.name,
                split=split,
                classes=data.classes,
                image_shape=data.image_shape,
                source=real_source(data.source, name=data.name, split=split, mirrors=data.mirrors),
                test=self.real("test") if split == "train" else None,
                overlap=data.overlap,
                storage=data.storage,
            )
        )

    def _of_synsets(self, split: str, place: str) -> str:
        data = self.config.data
        folder = synset_folder(place, setting=f"data.source = {data.source}")
        class_list = self.stages.add(
            ClassListStage(
                dataset=data.name,
                source=folder,
                hierarchy=hierarchy_file(place, data.hierarchy),
                classes=data.classes,
                ratio=data.hierarchy.ratio,
                test_images=data.hierarchy.test_images,
                seed=data.hierarchy.seed,
            )
        )
        return self.stages.add(
            SynsetPoolStage.model_validate(
                {
                    "dataset": data.name,
                    "split": split,
                    "class_list": class_list,
                    "classes": data.classes,
                    "image_shape": data.image_shape,
                    "source": folder,
                    "test": self.real("test") if split == "train" else None,
                    "overlap": data.overlap,
                }
            )
        )

    def synthetic(self) -> str:
        """The generated images that trainings learn from."""
        return self.generated(self.config.synthetic.source, setting="synthetic.source")

    def extrapolation_source(self) -> str:
        """Generated images that are scored directly: other ones than those of the synthetic pool."""
        config = self.config
        source = config.extrapolation.source
        if source != "generate":
            return self.generated(source, setting="extrapolation.source")
        if not self._is_drawn(config.synthetic.source):
            raise UserError(
                f"extrapolation.source = generate, but synthetic.source = {config.synthetic.source}, so there is no "
                "generator to draw from; name a file, or none if only extrapolated scores need it"
            )
        return self._drawn(config.extrapolation.source_images, seed=config.synthetic.sampler.seed + 1)

    def generated(self, source: str, *, setting: str) -> str:
        """The generated images that ``source``, the value of the key ``setting``, names.

        Raises:
            UserError: when there is no such file, subset, union or selection, or one is made of itself.
        """
        form, _, name = source.partition(":")
        match form:
            case "generate":
                synthetic = self.config.synthetic
                return self._drawn(synthetic.count, seed=synthetic.sampler.seed)
            case "subset":
                return self._subset(name, setting=setting)
            case "union":
                return self._union(name, setting=setting)
            case "selection":
                return self._selection(name, setting=setting)
            case "none":
                raise UserError(f"{setting} = none, but images of it are asked for; name a source, or leave them out")
        if source not in self._files:
            self._files[source] = synthetic_source(source, setting=setting)
        return self._ready_made(self._files[source])

    def _is_drawn(self, source: str) -> bool:
        """Whether a source rests on the generator."""
        form, _, name = source.partition(":")
        if form == "subset" and name in self.config.subsets:
            return self._is_drawn(self.config.subsets[name].of)
        if form == "selection" and name in self.config.selections:
            return self._is_drawn(self.config.selections[name].of)
        if form == "union" and name in self.config.unions:
            return any(map(self._is_drawn, self.config.unions[name].of))
        return form == "generate"

    def _subset(self, name: str, *, setting: str) -> str:
        data, subset = self.config.data, _named(self.config.subsets, name, "subset", setting)
        pool = self.generated(subset.of, setting=f"subsets.{name}.of")
        rows = rows_of(self.stages, pool)
        if rows is not None and subset.count > rows:
            raise UserError(f"subsets.{name}.count = {subset.count}, but {subset.of} has {rows} images")
        return self.stages.add(
            SubsetPoolStage(
                dataset=data.name,
                pool=pool,
                classes=data.classes,
                image_shape=data.image_shape,
                count=subset.count,
                balanced=subset.balanced,
                apart_from=tuple(
                    self.generated(source, setting=f"subsets.{name}.apart_from") for source in subset.apart_from
                ),
                seed=subset.seed,
            )
        )

    def _union(self, name: str, *, setting: str) -> str:
        data, union = self.config.data, _named(self.config.unions, name, "union", setting)
        pools = {source: self.generated(source, setting=f"unions.{name}.of") for source in union.of}
        for source, other in combinations(pools, 2):
            if pools[source] == pools[other]:
                raise UserError(f"unions.{name}.of: {source} and {other} are the same images, which would count twice")
        return self.stages.add(
            UnionPoolStage(
                dataset=data.name,
                parts=tuple(UnionPart(pool=pools[source], share=share) for source, share in union.of.items()),
                classes=data.classes,
                image_shape=data.image_shape,
            )
        )

    def _selection(self, name: str, *, setting: str) -> str:
        config, selection = self.config, _named(self.config.selections, name, "selection", setting)
        pool = self.generated(selection.of, setting=f"selections.{name}.of")
        loss = LossScoreStage(
            score="loss",
            pool=pool,
            model=self.classifiers.independent(selection.classifier, seed=config.seeds[0]),
            threat=config.threat,
            attack=None,
            seed=config.seeds[0],
        )
        return self.stages.add(
            SelectedPoolStage(
                dataset=config.data.name,
                pool=pool,
                score=self.stages.add(loss),
                classes=config.data.classes,
                image_shape=config.data.image_shape,
                keep=selection.keep,
            )
        )

    def _ready_made(self, source: FileSource) -> str:
        data = self.config.data
        return self.stages.add(
            IngestedPoolStage(
                dataset=data.name,
                split="synthetic",
                classes=data.classes,
                image_shape=data.image_shape,
                source=source,
                train=self.train,
                test=self.real("test"),
                overlap=data.overlap,
                storage=data.storage if source.format in PICTURE_FORMATS else "decoded",
            )
        )

    def _drawn(self, count: int, *, seed: int) -> str:
        data, synthetic = self.config.data, self.config.synthetic
        generator = self.stages.add(
            GeneratorStage(
                dataset=data.name,
                pool=self.train,
                classes=data.classes,
                image_shape=data.image_shape,
                settings=synthetic.generator,
            )
        )
        return self.stages.add(
            GeneratedPoolStage(
                dataset=data.name,
                generator=generator,
                classes=data.classes,
                image_shape=data.image_shape,
                count=count,
                sampler=synthetic.sampler.model_copy(update={"seed": seed}),
            )
        )


def _named(sets: Mapping[str, T], name: str, form: str, setting: str) -> T:
    if name not in sets:
        known = ", ".join(sets) or "none"
        raise UserError(f"{setting} = {form}:{name}, but {name} is not one of the configured {form}s: {known}")
    return sets[name]
