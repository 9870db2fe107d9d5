"""What planning a row stands on: a configuration, and the stages that are planned so far.

Planning is functions of (context, row) that add stages and return their ids. The classes that declare stages, tables
and figures call these methods; the functions behind them are in ``pools``, ``models``, ``scores`` and ``methods``.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from robustprune.core.settings import Weights
from robustprune.core.stage import Stage
from robustprune.evaluation.attack import AttackName
from robustprune.experiments.row import Conditions, Row
from robustprune.experiments.tables.forms import Table
from robustprune.experiments.tables.quantity import QuantityName
from robustprune.experiments.tables.row_specs import RunSpec
from robustprune.images.sources import FileSource
from robustprune.planning import methods, models, pools
from robustprune.planning.conditions import changed_by
from robustprune.planning.config import Config
from robustprune.planning.stages import Stages
from robustprune.training.recipes.base import AnyRecipe


@dataclass
class Context:
    """A configuration and its stages.

    Attributes:
        config: the user's configuration, or that as a row's conditions change it.
        stages: every stage that is planned so far, by id.
        parent: the context of the user's own configuration, where ``config`` is a changed one.
        real: id of the real images of each split; the same under all conditions.
        files: files of generated images by their setting: to look at them takes long.
        changed: the contexts of rows with conditions of their own.
    """

    config: Config
    stages: Stages = field(default_factory=Stages)
    parent: "Context | None" = None
    real: dict[str, str] = field(default_factory=dict)
    files: dict[str, FileSource] = field(default_factory=dict)
    changed: dict[Conditions, "Context"] = field(default_factory=dict)

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
        methods.refuse_unused_images(found, row)
        return found if found.config.seeds == self.config.seeds else found.from_seed(self.config.seeds[0])

    @property
    def train(self) -> str:
        """The pool of real images to train on."""
        return self.pool("train")

    def pool(self, split: str) -> str:
        """Return the pool of real images of a split, ``train`` or ``test``."""
        return pools.real_pool(self, split)

    def pools_of(self, recipe: AnyRecipe) -> tuple[str, ...]:
        """Return the pools that a recipe learns from, the real one first."""
        return pools.pools_of(self, recipe)

    def extrapolation_source(self) -> str:
        """Return the pool of generated images that are scored directly."""
        return pools.extrapolation_source(self)

    def weights_of(self, model: str, asked: Weights) -> Weights:
        """Return the weights of a model that are used: ``asked``, or ``last`` for an imported one. Raises UserError."""
        return models.weights_of(self, model, asked)

    def runs(self, row: Row, table: Table) -> tuple[RunSpec, ...]:
        """Return model and evaluations of a row for each seed. Raises UserError where the configuration forbids it."""
        return methods.runs(self.under(row), row, table)

    def trained(self, row: Row, table: Table | None, seeds: tuple[int, ...]) -> dict[int, str]:
        """Return the model of a row for each of some seeds."""
        return methods.trained_row(self.under(row), row, table, seeds)

    def manifest(self, row: Row, table: Table | None) -> str:
        """Return the manifest of what a row keeps."""
        return methods.manifest_of(self.under(row), row, table)

    def scored(self, row: Row) -> tuple[str, ...]:
        """Return the score of each pool that a row's models learn from, the real one first."""
        return methods.scored_pools(self.under(row), row)

    def scoring_model(self, row: Row) -> str:
        """Return the model that measures a row's scores and margins."""
        return methods.scoring_model(self, row)

    def layout(self, row: Row, seed: int) -> str:
        """Return the layout in a plane of a row's real images."""
        return methods.layout_of(self.under(row), row, seed)

    def check_measured(self, quantities: Iterable[QuantityName], attacks: tuple[AttackName, ...] | None) -> None:
        """Raise UserError for a quantity of an attack that is not measured."""
        methods.check_measured(self, quantities, attacks)
