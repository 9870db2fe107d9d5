"""Plans pools, and the generators that some are drawn from."""

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, TypeVar

from robustprune.core.errors import UserError
from robustprune.generation.generated_pool import GeneratedPoolStage
from robustprune.generation.generator import GeneratorStage
from robustprune.images.class_list import ClassListStage, hierarchy_file, synset_folder
from robustprune.images.ingested import IngestedPoolStage
from robustprune.images.settings import PICTURE_FORMATS
from robustprune.images.sources import FileSource, real_source, synthetic_source
from robustprune.images.subpools import UnionPart, UnionPoolStage
from robustprune.images.subset import SubsetPoolStage
from robustprune.images.synsets import SynsetPoolStage
from robustprune.planning.classifiers import independent_classifier
from robustprune.planning.stages import rows_of
from robustprune.scores.loss import LossScoreStage
from robustprune.scores.selected_pool import SelectedPoolStage
from robustprune.training.recipes.base import AnyRecipe

if TYPE_CHECKING:
    from robustprune.planning.context import Context

T = TypeVar("T")


def pools_of(context: "Context", recipe: AnyRecipe) -> tuple[str, ...]:
    """The pools a recipe learns from, the real one first, where it learns from real images."""
    trained_on = context.config.data.trained_on
    if trained_on in ("synthetic", "source"):
        return (synthetic_pool(context) if trained_on == "synthetic" else extrapolation_source(context),)
    if recipe.synthetic_in_batch == 0 or trained_on == "real":
        return (context.train,)
    if trained_on == "real_and_source":
        return (context.train, extrapolation_source(context))
    if context.config.synthetic.source == "none":
        raise UserError(
            f"synthetic.source = none, but training.{recipe.recipe}.synthetic_fraction = "
            f"{recipe.synthetic_fraction}; set it to 0"
        )
    return (context.train, synthetic_pool(context))


def real_pool(context: "Context", split: str) -> str:
    """The real images of a split."""
    if split not in context.root.real:
        context.root.real[split] = _planned_real(context, split)
    return context.root.real[split]


def _planned_real(context: "Context", split: str) -> str:
    data = context.config.data
    form, _, place = data.source.partition(":")
    if form == "imagenet21k":
        return _of_synsets(context, split, place)
    return context.add(
        IngestedPoolStage(
            dataset=data.name,
            split=split,
            classes=data.classes,
            image_shape=data.image_shape,
            source=real_source(data.source, name=data.name, split=split, mirrors=data.mirrors),
            test=real_pool(context, "test") if split == "train" else None,
            overlap=data.overlap,
            storage=data.storage,
        )
    )


def _of_synsets(context: "Context", split: str, place: str) -> str:
    data = context.config.data
    folder = synset_folder(place, setting=f"data.source = {data.source}")
    class_list = context.add(
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
    return context.add(
        SynsetPoolStage.model_validate(
            {
                "dataset": data.name,
                "split": split,
                "class_list": class_list,
                "classes": data.classes,
                "image_shape": data.image_shape,
                "source": folder,
                "test": real_pool(context, "test") if split == "train" else None,
                "overlap": data.overlap,
            }
        )
    )


def synthetic_pool(context: "Context") -> str:
    """The generated images that trainings learn from."""
    return generated_pool(context, context.config.synthetic.source, setting="synthetic.source")


def extrapolation_source(context: "Context") -> str:
    """Generated images that are scored directly: other ones than those of the synthetic pool."""
    config = context.config
    source = config.extrapolation.source
    if source != "generate":
        return generated_pool(context, source, setting="extrapolation.source")
    if not _is_drawn(context, config.synthetic.source):
        raise UserError(
            f"extrapolation.source = generate, but synthetic.source = {config.synthetic.source}, so there is no "
            "generator to draw from; name a file, or none if only extrapolated scores need it"
        )
    return _drawn(context, config.extrapolation.source_images, seed=config.synthetic.sampler.seed + 1)


def generated_pool(context: "Context", source: str, *, setting: str) -> str:
    """The generated images that ``source``, the value of the key ``setting``, names.

    Raises:
        UserError: when there is no such file, subset, union or selection, or one is made of itself.
    """
    form, _, name = source.partition(":")
    match form:
        case "generate":
            synthetic = context.config.synthetic
            return _drawn(context, synthetic.count, seed=synthetic.sampler.seed)
        case "subset":
            return _subset(context, name, setting=setting)
        case "union":
            return _union(context, name, setting=setting)
        case "selection":
            return _selection(context, name, setting=setting)
        case "none":
            raise UserError(f"{setting} = none, but images of it are asked for; name a source, or leave them out")
    if source not in context.root.files:
        context.root.files[source] = synthetic_source(source, setting=setting)
    return _ready_made(context, context.root.files[source])


def _is_drawn(context: "Context", source: str) -> bool:
    """Return True if a source rests on the generator."""
    form, _, name = source.partition(":")
    if form == "subset" and name in context.config.subsets:
        return _is_drawn(context, context.config.subsets[name].of)
    if form == "selection" and name in context.config.selections:
        return _is_drawn(context, context.config.selections[name].of)
    if form == "union" and name in context.config.unions:
        return any(_is_drawn(context, part) for part in context.config.unions[name].of)
    return form == "generate"


def _subset(context: "Context", name: str, *, setting: str) -> str:
    data, subset = context.config.data, _named(context.config.subsets, name, "subset", setting)
    pool = generated_pool(context, subset.of, setting=f"subsets.{name}.of")
    rows = rows_of(context.stages, pool)
    if rows is not None and subset.count > rows:
        raise UserError(f"subsets.{name}.count = {subset.count}, but {subset.of} has {rows} images")
    return context.add(
        SubsetPoolStage(
            dataset=data.name,
            pool=pool,
            classes=data.classes,
            image_shape=data.image_shape,
            count=subset.count,
            balanced=subset.balanced,
            apart_from=tuple(
                generated_pool(context, source, setting=f"subsets.{name}.apart_from") for source in subset.apart_from
            ),
            seed=subset.seed,
        )
    )


def _union(context: "Context", name: str, *, setting: str) -> str:
    data, union = context.config.data, _named(context.config.unions, name, "union", setting)
    pools = {source: generated_pool(context, source, setting=f"unions.{name}.of") for source in union.of}
    for source, other in combinations(pools, 2):
        if pools[source] == pools[other]:
            raise UserError(f"unions.{name}.of: {source} and {other} are the same images, which would count twice")
    return context.add(
        UnionPoolStage(
            dataset=data.name,
            parts=tuple(UnionPart(pool=pools[source], share=share) for source, share in union.of.items()),
            classes=data.classes,
            image_shape=data.image_shape,
        )
    )


def _selection(context: "Context", name: str, *, setting: str) -> str:
    config, selection = context.config, _named(context.config.selections, name, "selection", setting)
    pool = generated_pool(context, selection.of, setting=f"selections.{name}.of")
    loss = LossScoreStage(
        score="loss",
        pool=pool,
        model=independent_classifier(context.root, selection.classifier, seed=context.root.config.seeds[0]),
        threat=config.threat,
        attack=None,
        seed=context.root.config.seeds[0],
    )
    return context.add(
        SelectedPoolStage(
            dataset=config.data.name,
            pool=pool,
            score=context.add(loss),
            classes=config.data.classes,
            image_shape=config.data.image_shape,
            keep=selection.keep,
        )
    )


def _ready_made(context: "Context", source: FileSource) -> str:
    data = context.config.data
    return context.add(
        IngestedPoolStage(
            dataset=data.name,
            split="synthetic",
            classes=data.classes,
            image_shape=data.image_shape,
            source=source,
            train=context.train,
            test=real_pool(context, "test"),
            overlap=data.overlap,
            storage=data.storage if source.format in PICTURE_FORMATS else "decoded",
        )
    )


def _drawn(context: "Context", count: int, *, seed: int) -> str:
    data, synthetic = context.config.data, context.config.synthetic
    generator = context.add(
        GeneratorStage(
            dataset=data.name,
            pool=context.train,
            classes=data.classes,
            image_shape=data.image_shape,
            settings=synthetic.generator,
        )
    )
    return context.add(
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
