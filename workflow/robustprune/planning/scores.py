"""Plans scores, and the embeddings that some are extrapolated by."""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from robustprune.core.errors import UserError
from robustprune.core.stage import Stage
from robustprune.experiments.row import Row
from robustprune.planning.models import trained_model
from robustprune.planning.pools import extrapolation_source, pools_of
from robustprune.scores.dynamics_score import DynamicsScoreStage
from robustprune.scores.embedding import EmbeddingStage, FileEncoder, ModelEncoder, TorchvisionEncoder, encoder_source
from robustprune.scores.extrapolated import ExtrapolatedScoreStage, ScoredPool
from robustprune.scores.imported_score import ImportedScores, ImportedScoreStage, imported_scores
from robustprune.scores.metric import METRICS, Metric, Trajectory
from robustprune.scores.score import SCORES
from robustprune.training.dynamics import RecordingSettings
from robustprune.training.model import ModelStage
from robustprune.training.recipes.base import AnyRecipe

if TYPE_CHECKING:
    from robustprune.planning.context import Context

DirectScores = Callable[["Context", Row, tuple[str, ...]], tuple[str, ...]]
"""Adds the stages that score each of some pools for a row, and returns their ids."""


def scores_of(context: "Context", direct: DirectScores, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
    """Return the stages that score each of ``pools``: all directly, or the synthetic one by extrapolation."""
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
    """Refuse more neighbours than there are images, as far as their number is known before they are scored."""
    neighbours, counts = context.config.extrapolation.neighbours, [context.stages.rows_of(pool) for pool in sources]
    if None not in counts and (images := sum(filter(None, counts))) < max(neighbours.k):
        raise UserError(
            f"extrapolation.neighbours.k = {max(neighbours.k)}, but neighbours are looked for among {images} images"
        )


def _refuse_copies(context: "Context", sources: tuple[str, ...], target: str) -> None:
    """Refuse sources that are sure to share images with the target; the stage itself compares the images."""
    shared = [source for source in sources if context.stages.share_images(source, target)]
    if shared and not context.config.extrapolation.neighbours.allow_overlap:
        raise UserError(
            f"images of {target}, to which scores are extrapolated, are in {shared[0]}, too, which is scored "
            "directly; take disjoint pools, or set extrapolation.neighbours.allow_overlap: true"
        )


def direct_scores(context: "Context", row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
    """Return the stages that score each of ``pools``."""
    if row.imported is not None:
        return _imported(context, row.imported, pools)
    if row.score in METRICS:
        return _recorded(context, row.score, row, pools)
    return SCORES[row.score](context, row, pools)


def margin_scores(context: "Context", row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
    """Return the margins of each of ``pools``, whatever score the row prunes by."""
    if row.imported is not None and _imported_settings(context, row.imported).margins:
        return _imported(context, row.imported, pools)
    return SCORES["margin"](context, row, pools)


def _imported_settings(context: "Context", name: str) -> ImportedScores:
    imported = context.config.imported
    if name not in imported:
        known = ", ".join(imported) or "none"
        raise UserError(f"a row names the imported scores {name!r}, which are not among the configured: {known}")
    return imported[name]


def _imported(context: "Context", name: str, pools: tuple[str, ...]) -> tuple[str, ...]:
    """Return scores of the real images and, where there are any, of the generated ones, from a file each."""
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
        if None in (counts := {context.stages.rows_of(first), context.stages.rows_of(pool)}) or len(counts) == 1:
            raise UserError(
                f"{setting}: {location} is about the images of {first}, so it cannot be about those of {pool}, too"
            )


def _recorded(context: "Context", name: str, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
    """Recorded models see what the row's do; they are several where the metric is a mean over seeds.

    Where the row's models learn from one pool of generated images, or scores are extrapolated, each pool is scored by
    trainings on it alone (Nieth et al., section 3).
    """
    config, metric = context.config, context.config.dynamics.named(name)
    facts = METRICS.facts(name)
    recipe, trajectory = config.training.named(facts["recipe"]), metric.trajectory(facts.get("trajectory", "clean"))
    alone = row.extrapolated or config.data.trained_on in ("synthetic", "source")
    if alone:
        recipe = recipe.model_copy(update={"synthetic_fraction": 0.0})
    learnt_from = {pool: (pool,) if alone else pools_of(context, recipe) for pool in pools}
    if any(pool not in learnt for pool, learnt in learnt_from.items()):
        raise UserError(
            f"score {name} is unavailable: training.{recipe.recipe}.synthetic_fraction = {recipe.synthetic_fraction}, "
            "so no training records the synthetic images"
        )
    recordings = {pool: _recording(context, recipe, learnt) for pool, learnt in learnt_from.items()}
    for recording in recordings.values():
        if problem := _recording_problem(metric, recording, trajectory, recipe):
            raise UserError(f"score {name} is unavailable: {problem}")
    seeds = context.root.config.seeds if metric.of_every_seed else config.seeds[:1]

    def models(pool: str) -> tuple[str, ...]:
        recording, learnt = recordings[pool], learnt_from[pool]
        return tuple(trained_model(context, recipe, None, seed, recording=recording, pools=learnt) for seed in seeds)

    return tuple(
        context.add(
            DynamicsScoreStage(score=name, pool=pool, models=models(pool), trajectory=trajectory, metric=metric)
        )
        for pool in pools
    )


def _recording(context: "Context", recipe: AnyRecipe, learnt: tuple[str, ...]) -> RecordingSettings:
    """Return what a training writes down: after every epoch where it learns from few images."""
    dynamics, counts = context.config.dynamics, [context.stages.rows_of(pool) for pool in learnt]
    recording = dynamics.recording if recipe.attacks else dynamics.recording.without_attack()
    few = None not in counts and sum(filter(None, counts)) <= dynamics.every_epoch_up_to
    return recording.model_copy(update={"epochs": None}) if few else recording


def _recording_problem(
    metric: Metric, recording: RecordingSettings, trajectory: Trajectory, recipe: AnyRecipe
) -> str | None:
    """Return why a score cannot be made from what trainings by this recipe would record; None where it can."""
    if trajectory not in recording.trajectories:
        return f"dynamics.recording.trajectories = {list(recording.trajectories)} lacks {trajectory}"
    if (recording.epochs or 0) > recipe.epochs:
        return f"dynamics.recording.epochs = {recording.epochs}, but training.{recipe.recipe}.epochs = {recipe.epochs}"
    return metric.problem(recording.epochs or recipe.epochs)


def _held_out(context: "Context", score: str) -> int:
    """Return how many first images of a pool were held out from the trainings that its score is made from."""
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
        weights = getattr(scored, "weights", "last")
        encoder = ModelEncoder(model=model, weights=weights)
    else:
        encoder = encoder_source(settings, role=role)
        if isinstance(encoder, FileEncoder):
            _refuse_second_pool(context, encoder.location, pool, "extrapolation.embedding.source")
    return context.add(EmbeddingStage(pool=pool, encoder=encoder, dtype=settings.dtype))


def _file_of(spec: Stage) -> str | None:
    """Return where the file lies that has a line an image."""
    match spec:
        case ImportedScoreStage(location=location) | EmbeddingStage(encoder=FileEncoder(location=location)):
            return location
    return None
