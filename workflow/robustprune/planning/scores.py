"""Plans scores, and the embeddings that some are extrapolated by."""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast, get_args

from robustprune.attacks.boundary_settings import BoundarySearchSettings
from robustprune.core.errors import UserError
from robustprune.core.stage import Stage
from robustprune.experiments.row import Row
from robustprune.planning.config import Source
from robustprune.planning.models import trained_model, weights_of
from robustprune.planning.pools import extrapolation_source, pools_of
from robustprune.planning.stages import rows_of
from robustprune.pruning.settings import DropBeyond
from robustprune.scores.dynamics import DynamicsScoreStage
from robustprune.scores.embedding import EmbeddingStage, FileEncoder, ModelEncoder, TorchvisionEncoder, encoder_source
from robustprune.scores.extrapolated import ExtrapolatedScoreStage, ScoredPool
from robustprune.scores.imported import ImportedScoreStage, imported_scores
from robustprune.scores.loss import LossScoreStage
from robustprune.scores.margin import MarginStage
from robustprune.scores.settings import DynamicsScoreName, ImportedScores, LossScoreName
from robustprune.training.model import ModelStage
from robustprune.training.recipes.base import AnyRecipe

if TYPE_CHECKING:
    from robustprune.planning.context import Context

DirectScores = Callable[["Context", Row, tuple[str, ...]], tuple[str, ...]]
"""Adds the stages that score each of some pools for a row, and returns their ids."""


def scores_of(context: "Context", direct: DirectScores, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
    """The stages that score each of ``pools``: all directly, or the synthetic one by extrapolation."""
    real = context.train
    *_, synthetic = pools
    if not row.extrapolated or synthetic == real:
        return direct(context, row, pools)
    sources = (real,) if context.config.extrapolation.source == "none" else (real, extrapolation_source(context))
    _check_neighbours(context, sources)
    _refuse_copies(context, sources, synthetic)
    scores = direct(context, row, sources)
    extrapolated = ExtrapolatedScoreStage(
        pool=synthetic,
        embedding=_embedding(context, scores[0], synthetic, "synthetic"),
        sources=tuple(
            ScoredPool(
                pool=pool,
                score=score,
                embedding=_embedding(context, scores[0], pool, role),
                validation_images=_held_out(context, score),
            )
            for pool, score, role in zip(sources, scores, ("train", "source"), strict=False)
        ),
        settings=context.config.extrapolation.neighbours,
    )
    return (scores[0], context.add(extrapolated))[-len(pools) :]


def _check_neighbours(context: "Context", sources: tuple[str, ...]) -> None:
    """That there are as many images as neighbours are asked for, as far as that is known before they are scored."""
    neighbours, counts = context.config.extrapolation.neighbours, [rows_of(context.stages, pool) for pool in sources]
    if None not in counts and (images := sum(filter(None, counts))) < max(neighbours.k):
        raise UserError(
            f"extrapolation.neighbours.k = {max(neighbours.k)}, but neighbours are looked for among {images} images"
        )


def _refuse_copies(context: "Context", sources: tuple[str, ...], target: str) -> None:
    """The stage compares the images; what is known before they are scored is refused before."""
    shared = [source for source in sources if context.stages.share_images(source, target)]
    if shared and not context.config.extrapolation.neighbours.allow_overlap:
        raise UserError(
            f"images of {target}, to which scores are extrapolated, are in {shared[0]}, too, which is scored "
            "directly; take disjoint pools, or set extrapolation.neighbours.allow_overlap: true"
        )


def direct_scores(context: "Context", row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
    """The stages that score each of ``pools``."""
    if row.imported is not None:
        return _imported(context, row.imported, pools)
    if row.score == "margin":
        _check_thresholds(context, row)
        return margin_scores(context, row, pools)
    if row.score in get_args(LossScoreName):
        return _losses(context, cast(LossScoreName, row.score), row, pools)
    return _dynamics(context, cast(DynamicsScoreName, row.score), row, pools)


def margin_scores(context: "Context", row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
    """The margins of each of ``pools``, whatever score the row prunes by."""
    if row.imported is not None and _imported_settings(context, row.imported).margins:
        return _imported(context, row.imported, pools)
    config, model = context.config, context.scoring_model(row)
    settings = config.margins.named(row.margins)
    if isinstance(settings, BoundarySearchSettings):
        _check_reach(context, row, settings)
    return tuple(
        context.add(
            MarginStage(
                pool=pool,
                model=model,
                weights=weights_of(context, model, config.weights),
                norm=config.threat.norm,
                settings=settings,
            )
        )
        for pool in pools
    )


def _check_thresholds(context: "Context", row: Row) -> None:
    """No pixel is farther than 1 from another value, so beyond that are censored margins alone."""
    if context.config.threat.norm != "Linf" or not isinstance(row.amount, DropBeyond):
        return
    if max(map(abs, row.amount.thresholds)) >= 1:
        said = ", ".join(map(str, row.amount.thresholds))
        raise UserError(f"{row.method}: threshold = {said} should be below 1, a margin in Linf: 26/255, not 26")


def _check_reach(context: "Context", row: Row, settings: BoundarySearchSettings) -> None:
    """Margins beyond the reach are infinite, so what a row prunes or attacks by has to be within it."""
    epsilon = context.config.threat.epsilon
    needed = {"threat.epsilon": epsilon}
    if row.uses_margins:
        needed["the largest radius and the gap together"] = epsilon * (row.epsilon + row.gap)
    if row.score == "margin" and isinstance(row.amount, DropBeyond):
        needed["the threshold"] = max(row.amount.thresholds)
    what, least = max(needed.items(), key=lambda item: item[1])
    if settings.reach <= least:
        raise UserError(
            f"{row.method}: margins.boundary_search.step_size * max_steps = {settings.reach} should be more than "
            f"{what} = {least}, since no margin above it is found"
        )


def _imported_settings(context: "Context", name: str) -> ImportedScores:
    imported = context.config.imported
    if name not in imported:
        known = ", ".join(imported) or "none"
        raise UserError(f"a row names the imported scores {name!r}, which are not among the configured: {known}")
    return imported[name]


def _imported(context: "Context", name: str, pools: tuple[str, ...]) -> tuple[str, ...]:
    """Scores of the real images and, where there are any, of the generated ones, from a file each."""
    settings = _imported_settings(context, name)
    found = []
    for pool in pools:
        role = "train" if pool == context.train else "synthetic"
        source = imported_scores(name, settings, role)
        _refuse_second_pool(context, source["location"], pool, f"imported.{name}.{role}")
        spec = ImportedScoreStage(pool=pool, column=settings.column, unit=settings.unit, easy=settings.easy, **source)
        found.append(context.add(spec))
    return tuple(found)


def _refuse_second_pool(context: "Context", location: str, pool: str, setting: str) -> None:
    """A file is about the images of one pool; others of the same number would get its lines without a word."""
    for other in context.stages.values():
        if _file_of(other) != location or (first := dict(other.upstream)["pools"]) == pool:
            continue
        if None in (counts := {rows_of(context.stages, first), rows_of(context.stages, pool)}) or len(counts) == 1:
            raise UserError(
                f"{setting}: {location} is about the images of {first}, so it cannot be about those of {pool}, too"
            )


def _losses(context: "Context", name: LossScoreName, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
    config, model = context.config, context.scoring_model(row)
    attack = config.dynamics.loss_attack if name == "loss_adversarial" else None
    return tuple(
        context.add(
            LossScoreStage(
                score=name,
                pool=pool,
                model=model,
                weights=weights_of(context, model, config.weights),
                threat=config.threat,
                attack=attack,
                clip_start=config.training.rs_fgsm.clip_start,
                seed=config.seeds[0],
            )
        )
        for pool in pools
    )


def _dynamics(context: "Context", name: DynamicsScoreName, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
    """Recorded models see what the row's do, or the other generated images that they are to score in its place.

    Where scores are extrapolated from the real images alone, no generated image is learnt from either.
    They are several where the metric is a mean over seeds, else the first seed's. Where the row's models learn from
    one pool of generated images, so do they: each pool is scored by trainings on it alone (Nieth et al.).
    """
    source = context.config.dynamics.source(name)
    recipe, recording = context.config.training.named(source.recipe), context.config.dynamics.recording
    if row.extrapolated and pools == (context.train,):
        recipe = recipe.model_copy(update={"synthetic_fraction": 0.0})
    if problem := _recording_problem(context, source, recipe, pools):
        raise UserError(f"the score {name} is not to be had: {problem}")
    if source.recipe == "standard":
        recording = recording.without_attack()
    seeds = context.config.seeds if source.metric.metric == "el2n" else context.config.seeds[:1]
    return tuple(
        context.add(
            DynamicsScoreStage(
                score=name,
                pool=pool,
                models=tuple(
                    trained_model(context, recipe, None, seed, recording=recording, pools=seen) for seed in seeds
                ),
                trajectory=source.trajectory,
                metric=source.metric,
            )
        )
        for pool, seen in _seen(context, recipe, pools).items()
    )


def _seen(context: "Context", recipe: AnyRecipe, scored: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The pools that a recorded training learns from, for each pool that is to be scored."""
    if context.config.data.trained_on in ("synthetic", "source"):
        return {pool: (pool,) for pool in scored}
    usual = pools_of(context, recipe)
    return dict.fromkeys(scored, scored if len(scored) == len(usual) else usual)


def _recording_problem(context: "Context", source: Source, recipe: AnyRecipe, pools: tuple[str, ...]) -> str | None:
    """Why a score cannot be made from what trainings by this recipe would record; None where it can."""
    recording, epochs = context.config.dynamics.recording, recipe.epochs
    if any(pool not in seen for pool, seen in _seen(context, recipe, pools).items()):
        return (
            f"training.{source.recipe}.synthetic_fraction = {recipe.synthetic_fraction}, so no training records "
            "the synthetic images"
        )
    if source.trajectory not in recording.trajectories:
        return f"dynamics.recording.trajectories = {list(recording.trajectories)} lacks {source.trajectory}"
    if (recording.epochs or 0) > epochs:
        return f"dynamics.recording.epochs = {recording.epochs}, but training.{source.recipe}.epochs = {epochs}"
    recorded, metric = recording.epochs or epochs, source.metric
    if metric.metric == "uncertainty" and recorded - metric.window + metric.last_window < 1:
        return f"dynamics.uncertainty.window = {metric.window} is too long for the {recorded} epochs recorded"
    if metric.metric == "difficulty" and (metric.checkpoints or 0) > recorded:
        return f"dynamics.difficulty.checkpoints = {metric.checkpoints}, but only {recorded} epochs are recorded"
    return None


def _held_out(context: "Context", score: str) -> int:
    """How many first images of a pool were held out from the trainings whose course is its score."""
    spec = context.stages[score]
    if not isinstance(spec, DynamicsScoreStage):
        return 0
    model = cast(ModelStage, context.stages[spec.models[0]])
    return model.training.held_out_images if model.real == spec.pool else 0


def _embedding(context: "Context", score: str, pool: str, role: str) -> str:
    """``ours`` is the first model behind a direct score, with the weights that scored, as Nieth et al. suggest."""
    settings = context.config.extrapolation.embedding
    encoder: ModelEncoder | TorchvisionEncoder | FileEncoder
    if settings.source == "ours":
        scored = context.stages[score]
        model = next(stage for kind, stage in scored.upstream if kind == "models")
        weights = scored.weights if isinstance(scored, MarginStage | LossScoreStage) else "last"
        encoder = ModelEncoder(model=model, weights=weights)
    else:
        encoder = encoder_source(settings, role=role)
        if isinstance(encoder, FileEncoder):
            _refuse_second_pool(context, encoder.location, pool, "extrapolation.embedding.source")
    return context.add(EmbeddingStage(pool=pool, encoder=encoder, dtype=settings.dtype))


def _file_of(spec: Stage) -> str | None:
    """Where the file lies that has a line an image."""
    match spec:
        case ImportedScoreStage(location=location) | EmbeddingStage(encoder=FileEncoder(location=location)):
            return location
    return None
