"""Plans tables: the manifests, models and evaluations of their rows."""

from robustprune.config import REFERENCE, Config
from robustprune.errors import UserError
from robustprune.experiments import Row, Table
from robustprune.files import digest
from robustprune.planning.models import Models
from robustprune.planning.pools import Pools
from robustprune.planning.scores import Scores
from robustprune.planning.stages import Stages
from robustprune.settings import AnyAmount, AnyRecipe, AttackName, DropAsMany, DropShare, RadiusSettings, Weights
from robustprune.specs import EvaluationSpec, ManifestSpec, RowSpec, TableSpec


class Tables:
    """What people ask for, from the back to the front."""

    def __init__(self, config: Config, stages: Stages) -> None:
        self.config = config
        self.stages = stages
        self.pools = Pools(config, stages)
        self.models = Models(config, stages, self.pools)
        self.scores = Scores(config, stages, self.pools, self.models)

    def table(self, name: str, table: Table) -> str:
        """The stage of a table. Raises UserError for rows that the configuration does not allow."""
        return self.stages.add(
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
        if row.synthetic not in (None, self.config.synthetic.source):
            return self._with_synthetic(row)._row(row, table)  # which finds it configured
        manifest = self._manifest(row, table) if row.uses_manifest else None
        recipe = self.config.training.named(row.recipe)
        if row.checkpoint is not None:
            models: tuple[str, ...] = (self.models.imported(row.checkpoint),)
        else:
            self._check_mid_training(row, recipe)
            models = tuple(self.models.trained(recipe, manifest, seed, row) for seed in self.config.seeds)
        asked = row.weights or table.weights or self.config.weights
        return RowSpec(
            method=row.method,
            models=models,
            evaluations=tuple(self._evaluations(model, asked, table.attacks) for model in models),
            printed=row.printed,
        )

    def _with_synthetic(self, row: Row) -> "Tables":
        """The same with the row's own generated images. Raises UserError where its recipe looks at none."""
        if self.config.training.named(row.recipe).synthetic_in_batch == 0:
            raise UserError(
                f"{row.method}: synthetic = {row.synthetic}, but training.{row.recipe}.synthetic_fraction leaves no "
                "place for generated images in a batch"
            )
        synthetic = self.config.synthetic.model_copy(update={"source": row.synthetic})
        return Tables(self.config.model_copy(update={"synthetic": synthetic}), self.stages)

    def _check_mid_training(self, row: Row, recipe: AnyRecipe) -> None:
        midway = row.mid_training
        if midway is not None and midway.after_epoch >= recipe.epochs:
            raise UserError(
                f"{row.method}: mid_training.after_epoch = {midway.after_epoch} should be below "
                f"training.{recipe.recipe}.epochs = {recipe.epochs}"
            )

    def _manifest(self, row: Row, table: Table) -> str:
        epsilon = self.config.threat.epsilon
        recipe = self.config.training.named(row.recipe)
        pools = self.pools.of(recipe)
        by_difficulty = row.model_copy(update={"score": "difficulty"})
        return self.stages.add(
            ManifestSpec(
                pools=pools,
                scores=self.scores.of(self.scores.direct, row, pools) if row.uses_score else (),
                margins=self.scores.of(self.scores.margins, row, pools) if row.uses_margins else (),
                difficulties=self.scores.of(self.scores.direct, by_difficulty, pools) if row.uses_difficulty else (),
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
        pools, others = (self._learnt_from(one) for one in (row, followed))
        if pools != others:
            raise UserError(
                f"{table.target}: {row.method!r} learns from {', '.join(pools)}, so it cannot have the size of "
                f"{followed.method!r}, which learns from {', '.join(others)}"
            )
        return DropAsMany(manifest=self._manifest(followed, table))

    def _learnt_from(self, row: Row) -> tuple[str, ...]:
        tables = self if row.synthetic is None else self._with_synthetic(row)
        return tables.pools.of(self.config.training.named(row.recipe))

    def _evaluations(self, model: str, asked: Weights, attacks: tuple[AttackName, ...] | None) -> tuple[str, ...]:
        """The stages that attack a model, one an attack."""
        settings = self.config.evaluation
        return tuple(
            self.stages.add(
                EvaluationSpec(
                    attack=attack,
                    pgd=settings.pgd_named(attack),
                    pool=self.pools.real("test"),
                    images=settings.images_under(attack),
                    model=model,
                    weights=self.models.weights(model, asked),
                    threat=self.config.threat,
                    seed=settings.seed,
                )
            )
            for attack in attacks or settings.attacks
        )
