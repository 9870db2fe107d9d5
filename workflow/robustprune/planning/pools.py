"""Plans pools, and the generators that some are drawn from."""

from itertools import combinations
from typing import TYPE_CHECKING, Any

from robustprune.core.errors import UserError
from robustprune.generation.generated_pool import GeneratedPoolStage
from robustprune.generation.generator import GeneratorStage
from robustprune.images.class_list import ClassListStage, hierarchy_file, synset_folder
from robustprune.images.ingested import IngestedPoolStage
from robustprune.images.settings import PICTURE_FORMATS
from robustprune.images.sources import real_source, synthetic_source
from robustprune.images.subpools import UnionPart, UnionPoolStage
from robustprune.images.subset import SubsetPoolStage
from robustprune.images.synsets import SynsetPoolStage
from robustprune.planning.models import independent_classifier
from robustprune.scores.loss import LossScoreStage
from robustprune.scores.selected_pool import SelectedPoolStage
from robustprune.training.recipes.base import AnyRecipe

if TYPE_CHECKING:
    from robustprune.planning.context import Context


def pools_of(context: "Context", recipe: AnyRecipe) -> tuple[str, ...]:
    """Return the pools a recipe learns from, the real one first, where it learns from real images."""
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
    """Return the pool of the real images of a split."""
    known = context.root.real
    if split not in known:
        of_synsets = context.config.data.source.startswith("imagenet21k:")
        known[split] = _pool_of_synsets(context, split) if of_synsets else _real_images(context, split)
    return known[split]


def _fields_of_all(context: "Context") -> dict[str, Any]:
    data = context.config.data
    return {"dataset": data.name, "classes": data.classes, "image_shape": data.image_shape}


def _real_images(context: "Context", split: str) -> str:
    data = context.config.data
    return context.add(
        IngestedPoolStage(
            **_fields_of_all(context),
            split=split,
            source=real_source(data.source, name=data.name, split=split, mirrors=data.mirrors),
            test=real_pool(context, "test") if split == "train" else None,
            overlap=data.overlap,
            storage=data.storage,
        )
    )


def _pool_of_synsets(context: "Context", split: str) -> str:
    data = context.config.data
    place = data.source.partition(":")[2]
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
        SynsetPoolStage(
            **_fields_of_all(context),
            split=split,
            class_list=class_list,
            source=folder,
            test=real_pool(context, "test") if split == "train" else None,
            overlap=data.overlap,
        )
    )


def synthetic_pool(context: "Context") -> str:
    """Return the pool of generated images that trainings learn from."""
    return generated_pool(context, context.config.synthetic.source, setting="synthetic.source")


def extrapolation_source(context: "Context") -> str:
    """Return the pool of generated images that are scored directly; it is not the synthetic pool."""
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
    """Return the pool of generated images that ``source``, the value of ``setting``, names. Raises UserError."""
    form, _, name = source.partition(":")
    match form:
        case "generate":
            synthetic = context.config.synthetic
            return _drawn(context, synthetic.count, seed=synthetic.sampler.seed)
        case "subset":
            return _subset(context, name)
        case "union":
            return _union(context, name)
        case "selection":
            return _selection(context, name)
        case "none":
            raise UserError(f"{setting} = none, but images of it are asked for; name a source, or leave them out")
    return _ready_made(context, source, setting=setting)


def _is_drawn(context: "Context", source: str) -> bool:
    """Return True if a source rests on the generator."""
    made_of = context.config.image_sets.get(source)
    if made_of is None:
        return source == "generate"
    parts = [made_of.of] if isinstance(made_of.of, str) else made_of.of
    return any(_is_drawn(context, part) for part in parts)


def _subset(context: "Context", name: str) -> str:
    subset, key = context.config.subsets[name], f"subsets.{name}"
    pool = generated_pool(context, subset.of, setting=f"{key}.of")
    rows = context.stages.rows_of(pool)
    if rows is not None and subset.count > rows:
        raise UserError(f"{key}.count = {subset.count}, but {subset.of} has {rows} images")
    return context.add(
        SubsetPoolStage(
            **_fields_of_all(context),
            pool=pool,
            count=subset.count,
            balanced=subset.balanced,
            apart_from=tuple(
                generated_pool(context, source, setting=f"{key}.apart_from") for source in subset.apart_from
            ),
            seed=subset.seed,
        )
    )


def _union(context: "Context", name: str) -> str:
    shares, key = context.config.unions[name].of, f"unions.{name}.of"
    pools = {source: generated_pool(context, source, setting=key) for source in shares}
    for source, other in combinations(pools, 2):
        if pools[source] == pools[other]:
            raise UserError(f"{key}: {source} and {other} are the same images, which would count twice")
    parts = tuple(UnionPart(pool=pools[source], share=share) for source, share in shares.items())
    return context.add(UnionPoolStage(**_fields_of_all(context), parts=parts))


def _selection(context: "Context", name: str) -> str:
    config, selection = context.config, context.config.selections[name]
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
        SelectedPoolStage(**_fields_of_all(context), pool=pool, score=context.add(loss), keep=selection.keep)
    )


def _ready_made(context: "Context", source: str, *, setting: str) -> str:
    data, known = context.config.data, context.root.files
    if source not in known:
        known[source] = synthetic_source(source, setting=setting)
    return context.add(
        IngestedPoolStage(
            **_fields_of_all(context),
            split="synthetic",
            source=known[source],
            train=context.train,
            test=real_pool(context, "test"),
            overlap=data.overlap,
            storage=data.storage if known[source].format in PICTURE_FORMATS else "decoded",
        )
    )


def _drawn(context: "Context", count: int, *, seed: int) -> str:
    synthetic, fields = context.config.synthetic, _fields_of_all(context)
    generator = GeneratorStage(**fields, pool=context.train, settings=synthetic.generator)
    sampler = synthetic.sampler.model_copy(update={"seed": seed})
    return context.add(GeneratedPoolStage(**fields, generator=context.add(generator), count=count, sampler=sampler))
