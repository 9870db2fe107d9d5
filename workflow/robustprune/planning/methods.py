"""Plans the rows of tables: the manifests, models and evaluations of a method, under the row's own conditions."""

from collections.abc import Iterable

from robustprune.core.errors import UserError
from robustprune.core.settings import Weights
from robustprune.evaluation.settings import AttackName
from robustprune.evaluation.specs import EvaluationStage
from robustprune.experiments.conditions import Conditions
from robustprune.experiments.layouts.specs import LayoutStage
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.experiments.tables.settings import QuantityName, refuse_unmeasured
from robustprune.experiments.tables.specs import RunSpec
from robustprune.planning.conditions import changed_by
from robustprune.planning.config import Config
from robustprune.planning.models import Models
from robustprune.planning.pools import Pools
from robustprune.planning.scores import Scores
from robustprune.planning.stages import Stages, rows_of
from robustprune.pruning.settings import AnyAmount, DropAsMany, DropShare, RadiusSettings
from robustprune.pruning.specs import ManifestStage
from robustprune.training.settings import AnyRecipe

OF_CHECKPOINT = -1
"""Stands for the seed of a network that was trained elsewhere: it is paired with no run, only with another such."""


class Methods:
    """What rows describe, as one configuration makes it.

    Args:
        config: the configuration.
        stages: where stages are put.
        root: the methods of the user's own configuration, where ``config`` is one that a row's conditions changed.
    """

    def __init__(self, config: Config, stages: Stages, root: "Methods | None" = None) -> None:
        self.config = config
        self.stages = stages
        self.pools: Pools = Pools(config, stages, root.pools if root else None)
        self.models = Models(config, stages, self.pools)
        self.scores = Scores(config, stages, self.pools, self.models, self.scoring_model)
        self._root = root or self
        self._changed: dict[Conditions, Methods] = {}

    def under(self, row: Row) -> "Methods":
        """The methods of the user's configuration as a row's conditions change it. Raises UserError."""
        known = self._root._changed
        if row.conditions not in known:
            config = changed_by(row.conditions, self._root.config, origin=row.method)
            same = config is self._root.config
            known[row.conditions] = self._root if same else Methods(config, self.stages, self._root)
        known[row.conditions]._refuse_unused_images(row)
        return known[row.conditions]

    def _refuse_unused_images(self, row: Row) -> None:
        if row.synthetic is None or self.config.data.trained_on == "synthetic":
            return
        if self.config.training.named(row.recipe).synthetic_in_batch == 0:
            raise UserError(
                f"{row.method}: synthetic = {row.synthetic}, but training.{row.recipe}.synthetic_fraction leaves no "
                "place for generated images in a batch"
            )

    def runs(self, row: Row, table: Table) -> tuple[RunSpec, ...]:
        """Model and evaluations of a row for each seed. Raises UserError where the configuration does not allow it."""
        asked = row.weights or table.weights or self.config.weights
        models = self.trained(row, table, self.config.seeds)
        return tuple(
            RunSpec(seed=seed, model=model, evaluations=self._evaluations(model, asked, table.attacks))
            for seed, model in models.items()
        )

    def trained(self, row: Row, table: Table | None, seeds: tuple[int, ...]) -> dict[int, str]:
        """The model of a row for each of some seeds; a checkpoint is of none of them."""
        if row.checkpoint is not None:
            return {OF_CHECKPOINT: self.models.imported(row.checkpoint)}
        recipe = self.config.training.named(row.recipe)
        self._check_epochs(row, recipe)
        manifest = self.manifest(row, table) if row.uses_manifest else None
        return {seed: self.models.trained(recipe, manifest, seed, row) for seed in seeds}

    def layout(self, row: Row, seed: int) -> str:
        """The real images in a plane, or those of them that a row's training keeps in its middle."""
        methods = self.under(row)
        model = methods.trained(row, None, (seed,))[seed] if row.mid_training else None
        return self.stages.add(
            LayoutStage(pool=methods.pools.train, model=model, settings=self.config.layout, seed=seed)
        )

    def scored(self, row: Row) -> tuple[str, ...]:
        """The stages that score each pool that a row's models learn from, the real one first."""
        pools = self.pools.of(self.config.training.named(row.recipe))
        return self.scores.of(self.scores.direct, row, pools)

    def scoring_model(self, row: Row) -> str:
        """What measures a row's scores and margins: another row's model of the first seed, a checkpoint, or TRADES.

        TRADES is trained on everything, as for PUMA's Table 1 (papers.md, P14).
        """
        named = row.margin_model or self.config.margin_model
        if isinstance(named, Row):
            (model,) = self.under(named).trained(named, None, self.config.seeds[:1]).values()
            return model
        if named is not None:
            return self.models.imported(named)
        return self.models.trained(self.config.training.trades, None, self.config.seeds[0])

    def check_measured(self, quantities: Iterable[QuantityName], attacks: tuple[AttackName, ...] | None) -> None:
        """Raise UserError for a quantity of an attack that is not among ``attacks``, or those that are configured."""
        try:
            refuse_unmeasured(quantities, attacks or self.config.evaluation.attacks)
        except ValueError as error:
            raise UserError(str(error)) from None

    def _check_epochs(self, row: Row, recipe: AnyRecipe) -> None:
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

    def manifest(self, row: Row, table: Table | None) -> str:
        """What a row keeps, and how hard it is attacked."""
        epsilon = self.config.threat.epsilon
        recipe = self.config.training.named(row.recipe)
        pools = self.pools.of(recipe)
        if (row.among == "synthetic" and len(pools) == 1) or (row.among == "real" and pools[0] != self.pools.train):
            raise UserError(f"{row.method}: among = {row.among}, but it learns from {pools[0]} alone")
        if self.config.threat.norm == "Linf" and epsilon * row.epsilon >= 1:
            product = row.epsilon * epsilon
            raise UserError(
                f"{row.method}: epsilon = {row.epsilon} is a radius of {product}, and should be below 1 in Linf"
            )
        by_difficulty = row.model_copy(update={"score": "difficulty", "imported": None})
        return self.stages.add(
            ManifestStage(
                pools=pools,
                scores=self.scores.of(self.scores.direct, row, pools) if row.uses_score else (),
                margins=self.scores.of(self.scores.margins, row, pools) if row.uses_margins else (),
                difficulties=self.scores.of(self.scores.direct, by_difficulty, pools) if row.uses_difficulty else (),
                strategy=row.strategy,
                drop=self._amount(row, table),
                per=row.per,
                among=row.among,
                radius=RadiusSettings(rule=row.radius, epsilon=epsilon * row.epsilon, gap=epsilon * row.gap),
                validation_images=recipe.held_out_images,
                seed=self.config.seeds[0],
            )
        )

    def _amount(self, row: Row, table: Table | None) -> AnyAmount:
        """How many images a row drops: as it says, as many as another row, or the configured share."""
        if row.same_size_as is None:
            return row.amount or DropShare(shares=row.shares_of(self.config.pruning.ratio))
        if table is None:
            raise UserError(
                f"{row.method}: same_size_as = {row.same_size_as!r}, but only rows of a table can follow another"
            )
        followed = table.row(row.same_size_as)
        other = self.under(followed)
        pools = self.pools.of(self.config.training.named(row.recipe))
        others = other.pools.of(other.config.training.named(followed.recipe))
        if pools != others:
            raise UserError(
                f"{table.target}: {row.method!r} learns from {', '.join(pools)}, so it cannot have the size of "
                f"{followed.method!r}, which learns from {', '.join(others)}"
            )
        return DropAsMany(manifest=other.manifest(followed, table))

    def _evaluations(self, model: str, asked: Weights, attacks: tuple[AttackName, ...] | None) -> tuple[str, ...]:
        """The stages that attack a model, one an attack; where all attack fewer images, clean ones are seen, too."""
        settings, pool = self.config.evaluation, self.pools.real("test")
        asked_for = attacks or settings.attacks
        images = {attack: settings.images_under(attack, rows_of(self.stages, pool)) for attack in ("clean", *asked_for)}
        whole = any(images[attack] == images["clean"] for attack in asked_for)
        return tuple(
            self.stages.add(
                EvaluationStage(
                    attack=attack,
                    pgd=settings.pgd_named(attack),
                    pool=pool,
                    images=images[attack],
                    model=model,
                    weights=self.models.weights(model, asked),
                    threat=self.config.threat,
                    seed=settings.seed,
                )
            )
            for attack in (asked_for if whole else ("clean", *asked_for))
        )
