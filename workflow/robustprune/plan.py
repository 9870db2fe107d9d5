"""The plan: which stages a configuration needs, made before anything runs.

Configuration and experiment rows go in, a graph of stage specs comes out. The Snakefile and ``robustprune plan`` ask it
for everything: inputs, directories, resources, targets.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast, get_args

from robustprune.config import REFERENCE, Config, StageResources
from robustprune.errors import UserError
from robustprune.experiments import Row, Table
from robustprune.files import digest
from robustprune.paths import RECORD_FILE, SPEC_FILE, stage_directory
from robustprune.settings import (
    AnyAmount,
    AnyRecipe,
    BoundarySearchSettings,
    DropAsMany,
    DropShare,
    DynamicsScoreName,
    LossScoreName,
    RadiusSettings,
    RecordingSettings,
    Weights,
)
from robustprune.settings.scores import Source
from robustprune.sources import checkpoint_file, encoder_source, planned_rows, real_source, synthetic_source
from robustprune.specs import (
    DynamicsScoreSpec,
    EmbeddingSpec,
    EvaluationSpec,
    ExtrapolatedScoreSpec,
    FileEncoder,
    FileSource,
    GeneratedPoolSpec,
    GeneratorSpec,
    ImportedModelSpec,
    IngestedPoolSpec,
    LossScoreSpec,
    ManifestSpec,
    MarginSpec,
    ModelEncoder,
    ModelSpec,
    RowSpec,
    ScoredPool,
    Spec,
    TableSpec,
    TorchvisionEncoder,
)
from robustprune.stagefile import write_spec

DirectScores = Callable[[Row, tuple[str, ...]], tuple[str, ...]]
"""Adds the stages that score each of some pools for a row, and returns their ids."""


@dataclass(frozen=True)
class Plan:
    """Every stage by id, and the final files people ask for.

    Attributes:
        config: the configuration it was made from.
        results: ``results/<preset>``.
        stages: the spec of each stage, by its id.
        targets: the stage behind each file that can be made.
        problems: why each of the other files cannot be made with this configuration.
    """

    config: Config
    results: Path
    stages: Mapping[str, Spec]
    targets: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    def directory(self, stage_id: str) -> Path:
        """Where a stage lies. Raises UserError for an id that is not planned."""
        return stage_directory(self.results, self._spec(stage_id).kind, stage_id)

    def record(self, stage_id: str) -> Path:
        """The file that marks a stage as complete."""
        return self.directory(stage_id) / RECORD_FILE

    def upstream_records(self, stage_id: str) -> list[Path]:
        """The records of the stages that ``stage_id`` reads."""
        return [self.record(upstream) for _, upstream in self._spec(stage_id).upstream]

    def parts(self, stage_id: str) -> list[range]:
        """The rows of each job that computes a part of a stage; none where the stage is one job."""
        pool_id = self._spec(stage_id).shared_rows
        if pool_id is None:
            return []
        pool, length = self.stages[pool_id], self.config.execution.rows_of_a_part
        count = pool.count if isinstance(pool, GeneratedPoolSpec) else self._ingested_rows(pool)
        if count is None or count <= length:
            return []
        return [range(start, min(start + length, count)) for start in range(0, count, length)]

    def resources(self, stage_id: str) -> StageResources:
        """What a stage's job asks of the scheduler."""
        spec = self._spec(stage_id)
        kind = "ingest" if isinstance(spec, IngestedPoolSpec | ImportedModelSpec) else spec.kind
        resources: StageResources = getattr(self.config.resources, kind)
        return resources

    def needed_for(self, stage_ids: Iterable[str]) -> list[str]:
        """``stage_ids`` and all they rest on, each after what it needs."""
        order: dict[str, None] = {}

        def visit(stage_id: str) -> None:
            for _, upstream in self._spec(stage_id).upstream:
                visit(upstream)
            order.setdefault(stage_id)

        for stage_id in stage_ids:
            visit(stage_id)
        return list(order)

    def write_specs(self) -> None:
        """Put each stage's spec.json where its job looks for it."""
        for stage_id, spec in self.stages.items():
            write_spec(self.directory(stage_id) / SPEC_FILE, spec)

    def _ingested_rows(self, pool: Spec) -> int | None:
        return planned_rows(pool.source) if isinstance(pool, IngestedPoolSpec) else None

    def _spec(self, stage_id: str) -> Spec:
        if stage_id not in self.stages:
            raise UserError(f"{stage_id} is not a stage of the current configuration; see 'robustprune plan'")
        return self.stages[stage_id]


def make_plan(config: Config, tables: Mapping[str, Table], *, results: Path = Path("results")) -> Plan:
    """The stages of all ``tables`` at the configured preset.

    A table whose rows the configuration does not allow is told of when it is asked for, so that it stops no other.

    Raises:
        UserError: when a data file is missing, or no table can be made.
    """
    planner = _Planner(config)
    targets: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name, table in tables.items():
        target, before = str(results / table.target), dict(planner.stages)
        try:
            targets[target] = planner.table(name, table)
        except UserError as error:
            problems[target], planner.stages = str(error), before
    if problems and not targets:
        raise UserError(next(iter(problems.values())))
    return Plan(config, results / config.preset, planner.stages, targets, problems)


class _Planner:
    """Adds stages from the back to the front; a stage that two rows need is added once."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stages: dict[str, Spec] = {}
        self.train = self._real_pool("train")

    def _pools(self, recipe: AnyRecipe) -> tuple[str, ...]:
        """The pools a recipe learns from, the real one first."""
        if recipe.synthetic_in_batch == 0:
            return (self.train,)
        if self.config.synthetic.source == "none":
            raise UserError(
                f"synthetic.source = none, but training.{recipe.recipe}.synthetic_fraction = "
                f"{recipe.synthetic_fraction}; set it to 0"
            )
        return (self.train, self._synthetic_pool())

    def table(self, name: str, table: Table) -> str:
        return self._add(
            TableSpec(
                name=name,
                title=table.title,
                printed_file=table.printed_file,
                printed_digest=digest(REFERENCE / table.printed_file) if table.printed_file else None,
                printed_setting=table.printed_setting,
                rows=tuple(self._row(row, table) for row in table.rows),
            )
        )

    def _row(self, row: Row, table: Table) -> RowSpec:
        manifest = self._manifest(row, table) if row.uses_manifest else None
        recipe = self.config.training.named(row.recipe)
        if row.checkpoint is not None:
            models: tuple[str, ...] = (self._imported(row.checkpoint),)
        else:
            self._check_mid_training(row, recipe)
            models = tuple(self._model(recipe, manifest, seed, row) for seed in self.config.seeds)
        asked = row.weights or table.weights or self.config.weights
        return RowSpec(
            method=row.method,
            models=models,
            evaluations=tuple(self._evaluation(model, asked) for model in models),
            printed=row.printed,
        )

    def _weights(self, model: str, asked: Weights) -> Weights:
        """The weights of a model that were asked for, where it has them; an imported one has but one set."""
        spec = self.stages[model]
        if not isinstance(spec, ModelSpec):
            return "last"
        if asked == "best" and not spec.training.validates:
            raise UserError(
                f"weights = best, but training.{spec.training.recipe} has no validation; set its validation_images and "
                "validate_every above 0"
            )
        return asked

    def _real_pool(self, split: str) -> str:
        data = self.config.data
        return self._add(
            IngestedPoolSpec(
                dataset=data.name,
                split=split,
                classes=data.classes,
                image_shape=data.image_shape,
                source=real_source(data.source, name=data.name, split=split),
            )
        )

    def _synthetic_pool(self) -> str:
        synthetic = self.config.synthetic
        if synthetic.source != "generate":
            return self._ready_made_pool(synthetic_source(synthetic.source))
        return self._drawn_pool(synthetic.count, seed=synthetic.sampler.seed)

    def _source_pool(self) -> str:
        """Generated images that are scored directly: other ones than those of the synthetic pool."""
        config = self.config
        source = config.extrapolation.source
        if source != "generate":
            return self._ready_made_pool(synthetic_source(source, setting="extrapolation.source"))
        if config.synthetic.source != "generate":
            raise UserError(
                f"extrapolation.source = generate, but synthetic.source = {config.synthetic.source}, so there is no "
                "generator to draw from; name a file or none"
            )
        return self._drawn_pool(config.extrapolation.source_images, seed=config.synthetic.sampler.seed + 1)

    def _ready_made_pool(self, source: FileSource) -> str:
        data = self.config.data
        return self._add(
            IngestedPoolSpec(
                dataset=data.name,
                split="synthetic",
                classes=data.classes,
                image_shape=data.image_shape,
                source=source,
            )
        )

    def _drawn_pool(self, count: int, *, seed: int) -> str:
        data, synthetic = self.config.data, self.config.synthetic
        generator = self._add(
            GeneratorSpec(
                dataset=data.name,
                pool=self.train,
                classes=data.classes,
                image_shape=data.image_shape,
                settings=synthetic.generator,
            )
        )
        return self._add(
            GeneratedPoolSpec(
                dataset=data.name,
                generator=generator,
                classes=data.classes,
                image_shape=data.image_shape,
                count=count,
                sampler=synthetic.sampler.model_copy(update={"seed": seed}),
            )
        )

    def _check_mid_training(self, row: Row, recipe: AnyRecipe) -> None:
        midway = row.mid_training
        if midway is not None and midway.after_epoch >= recipe.epochs:
            raise UserError(
                f"{row.method}: mid_training.after_epoch = {midway.after_epoch} should be below "
                f"training.{recipe.recipe}.epochs = {recipe.epochs}"
            )

    def _model(
        self,
        recipe: AnyRecipe,
        manifest: str | None,
        seed: int,
        row: Row | None = None,
        recording: RecordingSettings | None = None,
        pools: tuple[str, ...] | None = None,
    ) -> str:
        config = self.config
        real, *synthetic = pools or self._pools(recipe)
        return self._add(
            ModelSpec(
                architecture=config.architecture,
                classes=config.data.classes,
                image_shape=config.data.image_shape,
                real=real,
                synthetic=synthetic[0] if synthetic else None,
                manifest=manifest,
                threat=config.threat,
                training=recipe,
                mid_training=row.mid_training if row else None,
                online=row.online if row else None,
                seed=seed,
                recording=recording,
            )
        )

    def _imported(self, name: str) -> str:
        config = self.config
        if name not in config.checkpoints:
            known = ", ".join(config.checkpoints) or "none"
            raise UserError(f"a row names the checkpoint {name!r}, which is not one of the configured ones: {known}")
        checkpoint = config.checkpoints[name]
        return self._add(
            ImportedModelSpec(
                architecture=checkpoint.architecture,
                classes=config.data.classes,
                image_shape=config.data.image_shape,
                digest=checkpoint.sha256,
                entry=checkpoint.entry,
                normalization=checkpoint.normalization,
                location=checkpoint_file(name, checkpoint),
            )
        )

    def _scores(self, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
        """The stages that score each of ``pools``."""
        if row.score == "margin":
            return self._margins(row, pools)
        if row.score in get_args(LossScoreName):
            return self._losses(cast(LossScoreName, row.score), row, pools)
        return self._dynamics(cast(DynamicsScoreName, row.score), pools)

    def _scoring_model(self, row: Row) -> str:
        """A checkpoint, or TRADES on everything with the first seed, as for PUMA's Table 1 (facts P14)."""
        checkpoint = row.margin_model or self.config.margin_model
        if checkpoint is not None:
            return self._imported(checkpoint)
        return self._model(self.config.training.trades, None, self.config.seeds[0])

    def _margins(self, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
        config, model = self.config, self._scoring_model(row)
        settings = config.margins.named(row.margins)
        if isinstance(settings, BoundarySearchSettings) and settings.reach <= config.threat.epsilon:
            raise UserError(
                f"{row.method}: margins.boundary_search.step_size * max_steps = {settings.reach} should be more than "
                f"threat.epsilon = {config.threat.epsilon}, since no margin above it is found"
            )
        return tuple(
            self._add(
                MarginSpec(
                    pool=pool,
                    model=model,
                    weights=self._weights(model, config.weights),
                    norm=config.threat.norm,
                    settings=settings,
                )
            )
            for pool in pools
        )

    def _losses(self, name: LossScoreName, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
        config, model = self.config, self._scoring_model(row)
        attack = config.dynamics.loss_attack if name == "loss_adversarial" else None
        return tuple(
            self._add(
                LossScoreSpec(
                    score=name,
                    pool=pool,
                    model=model,
                    weights=self._weights(model, config.weights),
                    threat=config.threat,
                    attack=attack,
                    seed=config.seeds[0],
                )
            )
            for pool in pools
        )

    def _dynamics(self, name: DynamicsScoreName, pools: tuple[str, ...]) -> tuple[str, ...]:
        """Recorded models see everything, or the other generated images that they are to score in its place.

        They are several where the metric is a mean over seeds, else the first seed's.
        """
        source = self.config.dynamics.source(name)
        recipe, recording = self.config.training.named(source.recipe), self.config.dynamics.recording
        if problem := self._recording_problem(source, recipe, pools):
            raise UserError(f"the score {name} is not to be had: {problem}")
        if source.recipe == "standard":
            recording = recording.without_attack()
        seeds = self.config.seeds if source.metric.metric == "el2n" else self.config.seeds[:1]
        seen = self._seen(recipe, pools)
        models = tuple(self._model(recipe, None, seed, recording=recording, pools=seen) for seed in seeds)
        return tuple(
            self._add(
                DynamicsScoreSpec(
                    score=name, pool=pool, models=models, trajectory=source.trajectory, metric=source.metric
                )
            )
            for pool in pools
        )

    def _seen(self, recipe: AnyRecipe, scored: tuple[str, ...]) -> tuple[str, ...]:
        """The pools that a recorded training learns from."""
        usual = self._pools(recipe)
        return scored if len(scored) == len(usual) else usual

    def _recording_problem(self, source: Source, recipe: AnyRecipe, pools: tuple[str, ...]) -> str | None:
        """Why a score cannot be made from what trainings by this recipe would record; None where it can."""
        recording, epochs = self.config.dynamics.recording, recipe.epochs
        if not set(pools) <= set(self._seen(recipe, pools)):
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

    def _scored(self, direct: DirectScores, row: Row, pools: tuple[str, ...]) -> tuple[str, ...]:
        """The stages that score each of ``pools``: all directly, or the synthetic one by extrapolation."""
        if not row.extrapolated or len(pools) == 1:
            return direct(row, pools)
        real, synthetic = pools
        sources = (real,) if self.config.extrapolation.source == "none" else (real, self._source_pool())
        scores = direct(row, sources)
        extrapolated = ExtrapolatedScoreSpec(
            pool=synthetic,
            embedding=self._embedding(scores[0], synthetic, "synthetic"),
            sources=tuple(
                ScoredPool(pool=pool, score=score, embedding=self._embedding(scores[0], pool, role))
                for pool, score, role in zip(sources, scores, ("train", "source"), strict=False)
            ),
            settings=self.config.extrapolation.neighbours,
        )
        return (scores[0], self._add(extrapolated))

    def _embedding(self, score: str, pool: str, role: str) -> str:
        """``ours`` is the first model behind a direct score, as Nieth et al. suggest."""
        settings = self.config.extrapolation.embedding
        encoder: ModelEncoder | TorchvisionEncoder | FileEncoder
        if settings.source == "ours":
            model = next(stage for kind, stage in self.stages[score].upstream if kind == "models")
            encoder = ModelEncoder(model=model)
        else:
            encoder = encoder_source(settings, role=role)
        return self._add(EmbeddingSpec(pool=pool, encoder=encoder, dtype=settings.dtype))

    def _manifest(self, row: Row, table: Table) -> str:
        epsilon = self.config.threat.epsilon
        recipe = self.config.training.named(row.recipe)
        pools = self._pools(recipe)
        by_difficulty = row.model_copy(update={"score": "difficulty"})
        return self._add(
            ManifestSpec(
                pools=pools,
                scores=self._scored(self._scores, row, pools) if row.uses_score else (),
                margins=self._scored(self._margins, row, pools) if row.uses_margins else (),
                difficulties=self._scored(self._scores, by_difficulty, pools) if row.uses_difficulty else (),
                strategy=row.strategy,
                drop=self._amount(row, table),
                per=row.per,
                radius=RadiusSettings(rule=row.radius, epsilon=epsilon * row.epsilon, gap=epsilon * row.gap),
                validation_images=recipe.held_out_images,
                seed=self.config.seeds[0],
            )
        )

    def _amount(self, row: Row, table: Table) -> AnyAmount:
        """How many images a row drops: as it says, as many as another row, or the configured share."""
        if row.same_size_as is None:
            return row.amount or DropShare(shares=row.shares_of(self.config.pruning.ratio))
        followed = table.row(row.same_size_as)
        pools, others = (self._pools(self.config.training.named(one.recipe)) for one in (row, followed))
        if pools != others:
            raise UserError(
                f"{table.target}: {row.method!r} learns from {', '.join(pools)}, so it cannot have the size of "
                f"{followed.method!r}, which learns from {', '.join(others)}"
            )
        return DropAsMany(manifest=self._manifest(followed, table))

    def _evaluation(self, model: str, asked: Weights) -> str:
        return self._add(
            EvaluationSpec(
                pool=self._real_pool("test"),
                model=model,
                weights=self._weights(model, asked),
                threat=self.config.threat,
                settings=self.config.evaluation,
            )
        )

    def _add(self, spec: Spec) -> str:
        stage_id = spec.id
        self.stages.setdefault(stage_id, spec)
        return stage_id


def stages_of_target(plan: Plan, target: str) -> Iterator[str]:
    """The stages a file or a stage id needs, in order.

    Raises:
        UserError: for an unknown target, or a file that the configuration does not allow.
    """
    if target in plan.problems:
        raise UserError(f"{target} cannot be made: {plan.problems[target]}")
    if target in plan.targets:
        yield from plan.needed_for([plan.targets[target]])
    elif target in plan.stages:
        yield from plan.needed_for([target])
    else:
        known = ", ".join(plan.targets)
        raise UserError(f"{target} is neither a stage id of this configuration nor one of its files: {known}")
