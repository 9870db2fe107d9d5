"""Plans scores, and the embeddings that some are extrapolated by."""

from collections.abc import Callable
from typing import cast, get_args

from robustprune.attacks.settings import BoundarySearchSettings
from robustprune.core.errors import UserError
from robustprune.core.stage import Stage
from robustprune.experiments.row import Row
from robustprune.images.sources import encoder_source, imported_scores
from robustprune.planning.config import Config
from robustprune.planning.models import Models
from robustprune.planning.pools import Pools
from robustprune.planning.stages import Stages, rows_of
from robustprune.pruning.settings import DropBeyond
from robustprune.scores.embeddings.specs import EmbeddingStage, FileEncoder, ModelEncoder, TorchvisionEncoder
from robustprune.scores.settings import DynamicsScoreName, ImportedScores, LossScoreName, Source
from robustprune.scores.specs import (
    DynamicsScoreStage,
    ExtrapolatedScoreStage,
    ImportedScoreStage,
    LossScoreStage,
    MarginStage,
    ScoredPool,
)
from robustprune.training.settings import AnyRecipe
from robustprune.training.specs import ModelStage

DirectScores = Callable[[Row, tuple[str, ...]], tuple[str, ...]]
"""Adds the stages that score each of some pools for a row, and returns their ids."""


class Scores:
    """What is measured of images."""

    def __init__(
        self, config: Config, stages: Stages, pools: Pools, models: Models, scoring_model: Callable[[Row], str]
    ) -> None:
        self.config = config
        self.stages = stages
        self.pools = pools
        self.models = models
        self.scoring_model = scoring_model

    def of(self, direct: DirectScores, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
        """The stages that score each of ``pools``: all directly, or the synthetic one by extrapolation."""
        real = self.pools.train
        *_, synthetic = pools
        if not row.extrapolated or synthetic == real:
            return direct(row, pools)
        sources = (real,) if self.config.extrapolation.source == "none" else (real, self.pools.extrapolation_source())
        self._check_neighbours(sources)
        self._refuse_copies(sources, synthetic)
        scores = direct(row, sources)
        extrapolated = ExtrapolatedScoreStage(
            pool=synthetic,
            embedding=self._embedding(scores[0], synthetic, "synthetic"),
            sources=tuple(
                ScoredPool(
                    pool=pool,
                    score=score,
                    embedding=self._embedding(scores[0], pool, role),
                    validation_images=self._held_out(score),
                )
                for pool, score, role in zip(sources, scores, ("train", "source"), strict=False)
            ),
            settings=self.config.extrapolation.neighbours,
        )
        return (scores[0], self.stages.add(extrapolated))[-len(pools) :]

    def _check_neighbours(self, sources: tuple[str, ...]) -> None:
        """That there are as many images as neighbours are asked for, as far as that is known before they are scored."""
        neighbours, counts = self.config.extrapolation.neighbours, [rows_of(self.stages, pool) for pool in sources]
        if None not in counts and (images := sum(filter(None, counts))) < max(neighbours.k):
            raise UserError(
                f"extrapolation.neighbours.k = {max(neighbours.k)}, but neighbours are looked for among {images} images"
            )

    def _refuse_copies(self, sources: tuple[str, ...], target: str) -> None:
        """The stage compares the images; what is known before they are scored is refused before."""
        shared = [source for source in sources if self.stages.share_images(source, target)]
        if shared and not self.config.extrapolation.neighbours.allow_overlap:
            raise UserError(
                f"images of {target}, to which scores are extrapolated, are in {shared[0]}, too, which is scored "
                "directly; take disjoint pools, or set extrapolation.neighbours.allow_overlap: true"
            )

    def direct(self, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
        """The stages that score each of ``pools``."""
        if row.imported is not None:
            return self._imported(row.imported, pools)
        if row.score == "margin":
            self._check_thresholds(row)
            return self.margins(row, pools)
        if row.score in get_args(LossScoreName):
            return self._losses(cast(LossScoreName, row.score), row, pools)
        return self._dynamics(cast(DynamicsScoreName, row.score), row, pools)

    def margins(self, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
        """The margins of each of ``pools``, whatever score the row prunes by."""
        if row.imported is not None and self._imported_settings(row.imported).margins:
            return self._imported(row.imported, pools)
        config, model = self.config, self.scoring_model(row)
        settings = config.margins.named(row.margins)
        if isinstance(settings, BoundarySearchSettings):
            self._check_reach(row, settings)
        return tuple(
            self.stages.add(
                MarginStage(
                    pool=pool,
                    model=model,
                    weights=self.models.weights(model, config.weights),
                    norm=config.threat.norm,
                    settings=settings,
                )
            )
            for pool in pools
        )

    def _check_thresholds(self, row: Row) -> None:
        """No pixel is farther than 1 from another value, so beyond that are censored margins alone."""
        if self.config.threat.norm != "Linf" or not isinstance(row.amount, DropBeyond):
            return
        if max(map(abs, row.amount.thresholds)) >= 1:
            said = ", ".join(map(str, row.amount.thresholds))
            raise UserError(f"{row.method}: threshold = {said} should be below 1, a margin in Linf: 26/255, not 26")

    def _check_reach(self, row: Row, settings: BoundarySearchSettings) -> None:
        """Margins beyond the reach are infinite, so what a row prunes or attacks by has to be within it."""
        epsilon = self.config.threat.epsilon
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

    def _imported_settings(self, name: str) -> ImportedScores:
        imported = self.config.imported
        if name not in imported:
            known = ", ".join(imported) or "none"
            raise UserError(f"a row names the imported scores {name!r}, which are not among the configured: {known}")
        return imported[name]

    def _imported(self, name: str, pools: tuple[str, ...]) -> tuple[str, ...]:
        """Scores of the real images and, where there are any, of the generated ones, from a file each."""
        settings = self._imported_settings(name)
        found = []
        for pool in pools:
            role = "train" if pool == self.pools.train else "synthetic"
            source = imported_scores(name, settings, role)
            self._refuse_second_pool(source["location"], pool, f"imported.{name}.{role}")
            spec = ImportedScoreStage(
                pool=pool, column=settings.column, unit=settings.unit, easy=settings.easy, **source
            )
            found.append(self.stages.add(spec))
        return tuple(found)

    def _refuse_second_pool(self, location: str, pool: str, setting: str) -> None:
        """A file is about the images of one pool; others of the same number would get its lines without a word."""
        for other in self.stages.values():
            if _file_of(other) != location or (first := dict(other.upstream)["pools"]) == pool:
                continue
            if None in (counts := {rows_of(self.stages, first), rows_of(self.stages, pool)}) or len(counts) == 1:
                raise UserError(
                    f"{setting}: {location} is about the images of {first}, so it cannot be about those of {pool}, too"
                )

    def _losses(self, name: LossScoreName, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
        config, model = self.config, self.scoring_model(row)
        attack = config.dynamics.loss_attack if name == "loss_adversarial" else None
        return tuple(
            self.stages.add(
                LossScoreStage(
                    score=name,
                    pool=pool,
                    model=model,
                    weights=self.models.weights(model, config.weights),
                    threat=config.threat,
                    attack=attack,
                    clip_start=config.training.rs_fgsm.clip_start,
                    seed=config.seeds[0],
                )
            )
            for pool in pools
        )

    def _dynamics(self, name: DynamicsScoreName, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
        """Recorded models see what the row's do, or the other generated images that they are to score in its place.

        Where scores are extrapolated from the real images alone, no generated image is learnt from either.
        They are several where the metric is a mean over seeds, else the first seed's. Where the row's models learn from
        one pool of generated images, so do they: each pool is scored by trainings on it alone (Nieth et al.).
        """
        source = self.config.dynamics.source(name)
        recipe, recording = self.config.training.named(source.recipe), self.config.dynamics.recording
        if row.extrapolated and pools == (self.pools.train,):
            recipe = recipe.model_copy(update={"synthetic_fraction": 0.0})
        if problem := self._recording_problem(source, recipe, pools):
            raise UserError(f"the score {name} is not to be had: {problem}")
        if source.recipe == "standard":
            recording = recording.without_attack()
        seeds = self.config.seeds if source.metric.metric == "el2n" else self.config.seeds[:1]
        return tuple(
            self.stages.add(
                DynamicsScoreStage(
                    score=name,
                    pool=pool,
                    models=tuple(
                        self.models.trained(recipe, None, seed, recording=recording, pools=seen) for seed in seeds
                    ),
                    trajectory=source.trajectory,
                    metric=source.metric,
                )
            )
            for pool, seen in self._seen(recipe, pools).items()
        )

    def _seen(self, recipe: AnyRecipe, scored: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """The pools that a recorded training learns from, for each pool that is to be scored."""
        if self.config.data.trained_on in ("synthetic", "source"):
            return {pool: (pool,) for pool in scored}
        usual = self.pools.of(recipe)
        return dict.fromkeys(scored, scored if len(scored) == len(usual) else usual)

    def _recording_problem(self, source: Source, recipe: AnyRecipe, pools: tuple[str, ...]) -> str | None:
        """Why a score cannot be made from what trainings by this recipe would record; None where it can."""
        recording, epochs = self.config.dynamics.recording, recipe.epochs
        if any(pool not in seen for pool, seen in self._seen(recipe, pools).items()):
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

    def _held_out(self, score: str) -> int:
        """How many first images of a pool were held out from the trainings whose course is its score."""
        spec = self.stages[score]
        if not isinstance(spec, DynamicsScoreStage):
            return 0
        model = cast(ModelStage, self.stages[spec.models[0]])
        return model.training.held_out_images if model.real == spec.pool else 0

    def _embedding(self, score: str, pool: str, role: str) -> str:
        """``ours`` is the first model behind a direct score, with the weights that scored, as Nieth et al. suggest."""
        settings = self.config.extrapolation.embedding
        encoder: ModelEncoder | TorchvisionEncoder | FileEncoder
        if settings.source == "ours":
            scored = self.stages[score]
            model = next(stage for kind, stage in scored.upstream if kind == "models")
            weights = scored.weights if isinstance(scored, MarginStage | LossScoreStage) else "last"
            encoder = ModelEncoder(model=model, weights=weights)
        else:
            encoder = encoder_source(settings, role=role)
            if isinstance(encoder, FileEncoder):
                self._refuse_second_pool(encoder.location, pool, "extrapolation.embedding.source")
        return self.stages.add(EmbeddingStage(pool=pool, encoder=encoder, dtype=settings.dtype))


def _file_of(spec: Stage) -> str | None:
    """Where the file lies that has a line an image."""
    match spec:
        case ImportedScoreStage(location=location) | EmbeddingStage(encoder=FileEncoder(location=location)):
            return location
    return None
