"""Plans rows of tables and figures: their manifests, models and evaluations, under each row's own conditions.

The classes that declare scores, tables and figures call the methods of ``Context``, which add stages and return ids.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import cast

from robustprune.core.errors import UserError
from robustprune.core.settings import Weights
from robustprune.core.stage import Stage
from robustprune.evaluation.attack import AttackName
from robustprune.evaluation.robustness import EvaluationStage
from robustprune.experiments.row import Conditions, Row
from robustprune.experiments.studies.tsne import TsneStage
from robustprune.experiments.tables.forms import Table
from robustprune.experiments.tables.quantity import QuantityName, refuse_unmeasured
from robustprune.experiments.tables.row_specs import RunSpec
from robustprune.images.pool import PoolStage
from robustprune.images.sources import FileSource
from robustprune.planning import models
from robustprune.planning import pools as planned_pools
from robustprune.planning.conditions import changed_by
from robustprune.planning.config import Config
from robustprune.planning.scores import direct_scores, margin_scores, scores_of
from robustprune.pruning.prune import ManifestStage
from robustprune.pruning.radius import RadiusSettings
from robustprune.pruning.settings import AnyAmount, DropAsMany, DropShare
from robustprune.training.model import ModelStage
from robustprune.training.recipes.base import AnyRecipe

OF_CHECKPOINT = -1
"""Stands for the seed of a network that was trained elsewhere: it is paired with no run, only with another such."""


class Stages(dict[str, Stage]):
    """Every stage by its id; one that two rows need is there once."""

    def add(self, spec: Stage) -> str:
        """Put a stage in, where it is not there yet, and return its id."""
        stage_id = spec.id
        self.setdefault(stage_id, spec)
        return stage_id

    def rows_of(self, pool_id: str) -> int | None:
        """Return how many images a pool has or will have; None where that is not known before it is made."""
        return self._pool(pool_id).planned_count(self)

    def share_images(self, one: str, other: str) -> bool:
        """Return True if two pools are sure to share images; whether files do is not known before they are read."""
        if self._has_all(one, other) or self._has_all(other, one):
            return True
        pairs = [(part, other) for part in self._pool(one).members] + [
            (one, part) for part in self._pool(other).members
        ]
        return any(self.share_images(*pair) for pair in pairs)

    def _has_all(self, outer: str, inner: str) -> bool:
        """Return True if every image of ``inner`` is sure to be in ``outer``."""
        pool = self._pool(inner)
        if outer == inner or any(self._has_all(part, inner) for part in self._pool(outer).members):
            return True
        if pool.members:
            return all(self._has_all(outer, part) for part in pool.members)
        return pool.parent is not None and self._has_all(outer, pool.parent)

    def _pool(self, pool_id: str) -> PoolStage:
        return cast(PoolStage, self[pool_id])


@dataclass
class Context:
    """A configuration and its stages."""

    config: Config  # the user's, or that as a row's conditions change it
    stages: Stages = field(default_factory=Stages)  # all that are planned so far
    parent: "Context | None" = None  # of the user's configuration, where ``config`` is a changed one
    real: dict[str, str] = field(default_factory=dict)  # the pool of real images of each split
    files: dict[str, FileSource] = field(default_factory=dict)  # of generated images, which take long to look at
    changed: dict[Conditions, "Context"] = field(default_factory=dict)  # of rows with conditions of their own

    @property
    def root(self) -> "Context":
        """The context of the user's own configuration."""
        return self.parent or self

    def add(self, stage: Stage) -> str:
        """Plan a stage, where it is not planned yet, and return its id."""
        return self.stages.add(stage)

    def from_seed(self, seed: int) -> "Context":
        """Return this context with another seed as the first, which scores and margins are measured with."""
        seeds = (seed, *(other for other in self.config.seeds if other != seed))
        return replace(self, config=self.config.model_copy(update={"seeds": seeds}), parent=self.root)

    def under(self, row: Row) -> "Context":
        """Return the context of the user's configuration as a row's conditions change it. Raises UserError."""
        known = self.root.changed
        if row.conditions not in known:
            config = changed_by(row.conditions, self.root.config, origin=row.method)
            same = config is self.root.config
            known[row.conditions] = self.root if same else Context(config, self.stages, self.root)
        found = known[row.conditions]
        _refuse_unused_images(found, row)
        return found if found.config.seeds == self.config.seeds else found.from_seed(self.config.seeds[0])

    @property
    def train(self) -> str:
        """The pool of real images to train on."""
        return self.pool("train")

    def pool(self, split: str) -> str:
        """Return the pool of real images of a split, ``train`` or ``test``."""
        return planned_pools.real_pool(self, split)

    def pools_of(self, recipe: AnyRecipe) -> tuple[str, ...]:
        """Return the pools that a recipe learns from, the real one first."""
        return planned_pools.pools_of(self, recipe)

    def weights_of(self, model: str, asked: Weights) -> Weights:
        """Return the weights of a model that are used: ``asked``, or ``last`` for an imported one. Raises UserError."""
        spec = self.stages[model]
        if not isinstance(spec, ModelStage):
            return "last"
        if asked == "best" and not spec.training.validates:
            raise UserError(
                f"weights = best, but training.{spec.training.recipe} has no validation; set its validation_images and "
                "validate_every above 0"
            )
        return asked

    def runs(self, row: Row, table: Table) -> tuple[RunSpec, ...]:
        """Return model and evaluations of a row for each seed. Raises UserError where the configuration forbids it."""
        context = self.under(row)
        asked = row.weights or table.weights or context.config.weights
        return tuple(
            RunSpec(seed=seed, model=model, evaluations=_evaluations(context, model, asked, table.attacks))
            for seed, model in self.trained(row, table, context.config.seeds).items()
        )

    def trained(self, row: Row, table: Table | None, seeds: tuple[int, ...]) -> dict[int, str]:
        """Return the model of a row for each of some seeds; a checkpoint is of none of them."""
        context = self.under(row)
        if row.checkpoint is not None:
            return {OF_CHECKPOINT: models.imported_model(context, row.checkpoint)}
        recipe = context.config.training.named(row.recipe)
        _check_epochs(row, recipe)
        manifests = {seed: _manifest_of_run(context, row, table, seed) for seed in seeds}
        return {
            seed: models.trained_model(context, recipe, manifest, seed, row) for seed, manifest in manifests.items()
        }

    def manifest(self, row: Row, table: Table | None) -> str:
        """Return the manifest of what a row keeps and how hard it is attacked."""
        return _manifest(self.under(row), row, table)

    def scored(self, row: Row) -> tuple[str, ...]:
        """Return the score of each pool that a row's models learn from, the real one first."""
        context = self.under(row)
        learnt_from = context.pools_of(context.config.training.named(row.recipe))
        return scores_of(context, direct_scores, row, learnt_from)

    def scoring_model(self, row: Row) -> str:
        """Return the model that measures a row's scores and margins: that of another row, a checkpoint, or TRADES.

        A model is that of the first seed. TRADES is trained on everything, as for PUMA's Table 1 (papers.md, P14).
        """
        named, seeds = row.margin_model or self.config.margin_model, self.config.seeds[:1]
        if row.margin_checkpoint in self.config.checkpoints:
            named = row.margin_checkpoint
        if isinstance(named, Row):
            (model,) = self.trained(named, None, seeds).values()
            return model
        if named is not None:
            return models.imported_model(self, named)
        return models.trained_model(self, self.config.training.trades, None, seeds[0])

    def layout(self, row: Row, seed: int) -> str:
        """Return the layout in a plane of the real images, or of those that a row's training keeps midway."""
        context = self.under(row)
        model = self.trained(row, None, (seed,))[seed] if row.mid_training else None
        return self.add(TsneStage(pool=self.train, model=model, settings=context.config.layout, seed=seed))

    def check_measured(self, quantities: Iterable[QuantityName], attacks: tuple[AttackName, ...] | None) -> None:
        """Raise UserError for a quantity of an attack that is not among ``attacks``, or those configured."""
        try:
            refuse_unmeasured(quantities, attacks or self.config.evaluation.attacks)
        except ValueError as error:
            raise UserError(str(error)) from None


def _refuse_unused_images(context: Context, row: Row) -> None:
    """Raise UserError where a row names generated images and its recipe has no place for them in a batch."""
    if row.synthetic is None or context.config.data.trained_on == "synthetic":
        return
    if context.config.training.named(row.recipe).synthetic_in_batch == 0:
        raise UserError(
            f"{row.method}: synthetic = {row.synthetic}, but training.{row.recipe}.synthetic_fraction leaves no "
            "place for generated images in a batch"
        )


def _check_epochs(row: Row, recipe: AnyRecipe) -> None:
    """Refuse what would begin after the last epoch."""
    midway, online = row.mid_training, row.online
    begins = {
        "mid_training.after_epoch": midway.after_epoch if midway else 0,
        "online.warm_up_epochs": online.warm_up_epochs if online else 0,
    }
    for key, epoch in begins.items():
        if epoch >= recipe.epochs:
            raise UserError(
                f"{row.method}: {key} = {epoch} should be below {recipe.epochs}, the epochs of its training"
            )


def _manifest_of_run(context: Context, row: Row, table: Table | None, seed: int) -> str | None:
    """Return what a run learns from: each draws its own random images, and may measure its own margins."""
    if not row.uses_manifest:
        return None
    measured = context.from_seed(seed) if row.margin_model_per_seed else context
    return _manifest(measured, row, table, seed if row.draws else None)


def _manifest(context: Context, row: Row, table: Table | None, seed: int | None = None) -> str:
    """Return what a row keeps; ``seed`` is that of what is drawn, the first of the configuration where it is None."""
    epsilon = context.config.threat.epsilon
    recipe = context.config.training.named(row.recipe)
    pools = context.pools_of(recipe)
    if (row.among == "synthetic" and len(pools) == 1) or (row.among == "real" and pools[0] != context.train):
        raise UserError(f"{row.method}: among = {row.among}, but it learns from {pools[0]} alone")
    if context.config.threat.norm == "Linf" and epsilon * row.epsilon >= 1:
        product = row.epsilon * epsilon
        raise UserError(
            f"{row.method}: epsilon = {row.epsilon} is a radius of {product}, and should be below 1 in Linf"
        )
    by_difficulty = row.model_copy(update={"score": "difficulty", "imported": None})
    return context.add(
        ManifestStage(
            pools=pools,
            scores=scores_of(context, direct_scores, row, pools) if row.uses_score else (),
            margins=scores_of(context, margin_scores, row, pools) if row.uses_margins else (),
            difficulties=scores_of(context, direct_scores, by_difficulty, pools) if row.uses_difficulty else (),
            strategy=row.strategy,
            drop=_amount(context, row, table),
            per=row.per,
            among=row.among,
            radius=RadiusSettings(rule=row.radius, epsilon=epsilon * row.epsilon, gap=epsilon * row.gap),
            validation_images=recipe.held_out_images,
            seed=context.config.seeds[0] if seed is None else seed,
        )
    )


def _amount(context: Context, row: Row, table: Table | None) -> AnyAmount:
    """Return how many images a row drops: as it says, as many as another row, or the configured share."""
    if row.same_size_as is None:
        return row.amount or DropShare(shares=row.shares_of(context.config.pruning.ratio))
    if table is None:
        raise UserError(
            f"{row.method}: same_size_as = {row.same_size_as!r}, but only rows of a table can follow another"
        )
    followed = table.row(row.same_size_as)
    if followed.margin_model_per_seed:
        raise UserError(f"{row.method}: same_size_as = {followed.method!r}, whose size differs from seed to seed")
    other = context.root.under(followed)
    pools = context.pools_of(context.config.training.named(row.recipe))
    others = other.pools_of(other.config.training.named(followed.recipe))
    if pools != others:
        raise UserError(
            f"{table.target}: {row.method!r} learns from {', '.join(pools)}, so it cannot have the size of "
            f"{followed.method!r}, which learns from {', '.join(others)}"
        )
    return DropAsMany(manifest=context.root.manifest(followed, table))


def _evaluations(
    context: Context, model: str, asked: Weights, attacks: tuple[AttackName, ...] | None
) -> tuple[str, ...]:
    """The stages that attack a model, one an attack; where all attack fewer images, clean ones are seen, too."""
    settings, pool = context.config.evaluation, context.pool("test")
    asked_for = attacks or settings.attacks
    images = {attack: settings.images_under(attack, context.stages.rows_of(pool)) for attack in ("clean", *asked_for)}
    whole = any(images[attack] == images["clean"] for attack in asked_for)
    return tuple(
        context.add(
            EvaluationStage(
                attack=attack,
                pgd=settings.pgd_named(attack),
                pool=pool,
                images=images[attack],
                model=model,
                weights=context.weights_of(model, asked),
                threat=context.config.threat,
                seed=settings.seed,
            )
        )
        for attack in (asked_for if whole else ("clean", *asked_for))
    )
