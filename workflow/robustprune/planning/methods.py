"""Plans the rows of tables: the manifests, models and evaluations of a method, under the row's own conditions."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from robustprune.core.errors import UserError
from robustprune.core.settings import Weights
from robustprune.evaluation.attack import AttackName
from robustprune.evaluation.robustness import EvaluationStage
from robustprune.experiments.row import Row
from robustprune.experiments.studies.tsne import TsneStage
from robustprune.experiments.tables.forms import Table
from robustprune.experiments.tables.quantity import QuantityName, refuse_unmeasured
from robustprune.experiments.tables.row_specs import RunSpec
from robustprune.planning.classifiers import imported_model
from robustprune.planning.models import trained_model, weights_of
from robustprune.planning.pools import pools_of, real_pool
from robustprune.planning.scores import direct_scores, margin_scores, scores_of
from robustprune.planning.stages import rows_of
from robustprune.pruning.prune import ManifestStage
from robustprune.pruning.radius import RadiusSettings
from robustprune.pruning.settings import AnyAmount, DropAsMany, DropShare
from robustprune.training.recipes.base import AnyRecipe

if TYPE_CHECKING:
    from robustprune.planning.context import Context

OF_CHECKPOINT = -1
"""Stands for the seed of a network that was trained elsewhere: it is paired with no run, only with another such."""


def refuse_unused_images(context: "Context", row: Row) -> None:
    """Raise UserError where a row names generated images and its recipe has no place for them in a batch."""
    if row.synthetic is None or context.config.data.trained_on == "synthetic":
        return
    if context.config.training.named(row.recipe).synthetic_in_batch == 0:
        raise UserError(
            f"{row.method}: synthetic = {row.synthetic}, but training.{row.recipe}.synthetic_fraction leaves no "
            "place for generated images in a batch"
        )


def runs(context: "Context", row: Row, table: Table) -> tuple[RunSpec, ...]:
    """Model and evaluations of a row for each seed. Raises UserError where the configuration does not allow it."""
    asked = row.weights or table.weights or context.config.weights
    models = trained_row(context, row, table, context.config.seeds)
    return tuple(
        RunSpec(seed=seed, model=model, evaluations=_evaluations(context, model, asked, table.attacks))
        for seed, model in models.items()
    )


def trained_row(context: "Context", row: Row, table: Table | None, seeds: tuple[int, ...]) -> dict[int, str]:
    """The model of a row for each of some seeds; a checkpoint is of none of them."""
    if row.checkpoint is not None:
        return {OF_CHECKPOINT: imported_model(context, row.checkpoint)}
    recipe = context.config.training.named(row.recipe)
    _check_epochs(row, recipe)
    return {
        seed: trained_model(context, recipe, _manifest_of_run(context, row, table, seed), seed, row) for seed in seeds
    }


def _manifest_of_run(context: "Context", row: Row, table: Table | None, seed: int) -> str | None:
    """Return what a run learns from: each draws its own random images, and may measure its own margins."""
    if not row.uses_manifest:
        return None
    measured = context.from_seed(seed) if row.margin_model_per_seed else context
    return manifest_of(measured, row, table, seed=seed if row.draws else None)


def layout_of(context: "Context", row: Row, seed: int) -> str:
    """The real images in a plane, or those of them that a row's training keeps in its middle."""
    model = trained_row(context, row, None, (seed,))[seed] if row.mid_training else None
    return context.add(TsneStage(pool=context.train, model=model, settings=context.config.layout, seed=seed))


def scored_pools(context: "Context", row: Row) -> tuple[str, ...]:
    """The stages that score each pool that a row's models learn from, the real one first."""
    pools = pools_of(context, context.config.training.named(row.recipe))
    return scores_of(context, direct_scores, row, pools)


def scoring_model(context: "Context", row: Row) -> str:
    """Return what measures a row's scores and margins: another row's model of the first seed, a checkpoint, or TRADES.

    TRADES is trained on everything, as for PUMA's Table 1 (papers.md, P14).
    """
    named = row.margin_model or context.config.margin_model
    if row.margin_checkpoint in context.config.checkpoints:
        named = row.margin_checkpoint
    if isinstance(named, Row):
        (model,) = context.trained(named, None, context.config.seeds[:1]).values()
        return model
    if named is not None:
        return imported_model(context, named)
    return trained_model(context, context.config.training.trades, None, context.config.seeds[0])


def check_measured(
    context: "Context", quantities: Iterable[QuantityName], attacks: tuple[AttackName, ...] | None
) -> None:
    """Raise UserError for a quantity of an attack that is not among ``attacks``, or those that are configured."""
    try:
        refuse_unmeasured(quantities, attacks or context.config.evaluation.attacks)
    except ValueError as error:
        raise UserError(str(error)) from None


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


def manifest_of(context: "Context", row: Row, table: Table | None, seed: int | None = None) -> str:
    """Return what a row keeps, and how hard it is attacked; ``seed`` of what is drawn, else the first of the config."""
    epsilon = context.config.threat.epsilon
    recipe = context.config.training.named(row.recipe)
    pools = pools_of(context, recipe)
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


def _amount(context: "Context", row: Row, table: Table | None) -> AnyAmount:
    """Return how many images a row drops: as it says, as many as another row, or the configured share."""
    if row.same_size_as is None:
        return row.amount or DropShare(shares=row.shares_of(context.config.pruning.ratio))
    if table is None:
        raise UserError(
            f"{row.method}: same_size_as = {row.same_size_as!r}, but only rows of a table can follow another"
        )
    followed = table.row(row.same_size_as)
    other = context.root.under(followed)
    pools = pools_of(context, context.config.training.named(row.recipe))
    others = other.pools_of(other.config.training.named(followed.recipe))
    if pools != others:
        raise UserError(
            f"{table.target}: {row.method!r} learns from {', '.join(pools)}, so it cannot have the size of "
            f"{followed.method!r}, which learns from {', '.join(others)}"
        )
    return DropAsMany(manifest=context.root.manifest(followed, table))


def _evaluations(
    context: "Context", model: str, asked: Weights, attacks: tuple[AttackName, ...] | None
) -> tuple[str, ...]:
    """The stages that attack a model, one an attack; where all attack fewer images, clean ones are seen, too."""
    settings, pool = context.config.evaluation, real_pool(context, "test")
    asked_for = attacks or settings.attacks
    images = {attack: settings.images_under(attack, rows_of(context.stages, pool)) for attack in ("clean", *asked_for)}
    whole = any(images[attack] == images["clean"] for attack in asked_for)
    return tuple(
        context.add(
            EvaluationStage(
                attack=attack,
                pgd=settings.pgd_named(attack),
                pool=pool,
                images=images[attack],
                model=model,
                weights=weights_of(context, model, asked),
                threat=context.config.threat,
                seed=settings.seed,
            )
        )
        for attack in (asked_for if whole else ("clean", *asked_for))
    )
