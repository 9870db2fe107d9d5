"""The forms of tables in a file of experiments: their rows, and the quantities in their columns."""

from typing import Annotated, Any, Literal, cast, get_args

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from robustprune.core.settings import Line, Norm, Settings, Weights
from robustprune.evaluation.settings import AttackNames
from robustprune.experiments.claim_settings import Claim
from robustprune.experiments.row import Row
from robustprune.experiments.tables.quantity import (
    AccuracyName,
    Form,
    QuantityName,
    columns_of,
    only_of,
    refuse_unmeasured,
)
from robustprune.experiments.tables.row_specs import Cells, Check, Printed
from robustprune.networks.architecture import Architecture, ArchitectureRole
from robustprune.training.recipes.base import RecipeName


def _columns(form: Form) -> Any:
    return Field(columns_of(form), min_length=1, description="the columns")


class Heading(Settings):
    """Settings that a table of any form has."""

    title: Line
    target: str = Field(
        pattern=r"^[\w-]+(/[\w-]+)*\.csv$", description="file under results/ that shows the configured preset's table"
    )
    printed: Printed | None = Field(None, description="the paper's own numbers; none where it prints none")
    claims: tuple[Claim[Check], ...] = ()
    quantities: tuple[QuantityName, ...] = Field(description="the columns")

    @property
    def methods(self) -> tuple[str, ...]:
        """The first cell of each row."""
        rows: tuple[Any, ...] = getattr(self, "rows", ())
        return tuple(row.method for row in rows)

    @model_validator(mode="after")
    def _rows_are_distinct_and_in_a_file(self) -> "Heading":
        rows: tuple[Any, ...] = getattr(self, "rows", ())
        if twice := {method for method in self.methods if self.methods.count(method) > 1}:
            raise ValueError(f"two rows have the method {min(twice)!r}")
        if self.printed is None and (named := [row.method for row in rows if row.printed is not None]):
            raise ValueError(f"{named[0]!r} names a printed row, and the table no file of printed numbers")
        return self

    @model_validator(mode="after")
    def _columns_are_shown_once(self) -> "Heading":
        if twice := [name for name in self.quantities if self.quantities.count(name) > 1]:
            raise ValueError(f"quantities has {twice[0]} twice")
        for name in self.printed.beside if self.printed else ():
            if name not in self.quantities:
                raise ValueError(f"printed.beside: there is no column {name}; there are {', '.join(self.quantities)}")
        return self

    @model_validator(mode="after")
    def _claims_name_what_there_is(self) -> "Heading":
        for check in (check for claim in self.claims for check in claim.checks):
            for method in (check.row, check.other):
                if isinstance(method, str) and method not in self.methods:
                    raise ValueError(f"claims: there is no row {method!r}; there are {', '.join(self.methods)}")
            if check.quantity not in self.quantities:
                raise ValueError(f"claims: there is no column {check.quantity}; there are {', '.join(self.quantities)}")
        return self


class Table(Heading):
    """Methods: each row's models are trained once for each seed, and evaluated."""

    form: Literal["methods"] = "methods"
    quantities: tuple[Annotated[QuantityName, only_of("methods")], ...] = _columns("methods")
    weights: Weights | None = Field(None, description="which weights of its rows' models are evaluated")
    attacks: AttackNames | None = Field(
        None, description="what its rows' models are measured under; evaluation.attacks where absent"
    )
    baseline: str | dict[Norm, str] | None = Field(
        None,
        description="method that the others are compared with, or one for the rows of each norm; null: the first row",
    )
    rows: tuple[Row, ...] = Field(min_length=1)

    def row(self, method: str) -> Row:
        """Return the row of a method."""
        return next(row for row in self.rows if row.method == method)

    def compared_with(self, row: Row) -> str:
        """Return the method that a row is compared with."""
        if isinstance(self.baseline, dict):
            return self.baseline[cast(Norm, row.norm)]
        return self.baseline or self.rows[0].method

    @model_validator(mode="after")
    def _baselines_are_rows(self) -> "Table":
        for row in self.rows:
            if isinstance(self.baseline, dict) and row.norm not in self.baseline:
                norm = f"whose norm is {row.norm}" if row.norm else "which names no norm"
                raise ValueError(f"baseline names a method for each norm, and none for {row.method!r}, {norm}")
            if (method := self.compared_with(row)) not in self.methods:
                raise ValueError(f"baseline = {method!r} is not among the rows: {', '.join(self.methods)}")
        return self

    @model_validator(mode="after")
    def _columns_are_measured(self) -> "Table":
        if self.attacks is not None:
            claimed = [check.quantity for claim in self.claims for check in claim.checks]
            shown = self.quantities if "quantities" in self.model_fields_set else ()
            refuse_unmeasured([*shown, *claimed, *(self.printed.beside if self.printed else ())], self.attacks)
        return self

    @model_validator(mode="after")
    def _keys_of_rows_are_used(self) -> "Table":
        for row in self.rows:
            if unused := row.unused_keys:
                raise ValueError(
                    f"{row.method}: {', '.join(unused)} would change nothing, as its strategy is {row.strategy}"
                )
        return self

    @model_validator(mode="after")
    def _followed_rows_prune(self) -> "Table":
        pruning = [row.method for row in self.rows if row.strategy != "none" and row.same_size_as is None]
        for row in self.rows:
            if row.same_size_as not in (None, *pruning):
                raise ValueError(f"same_size_as = {row.same_size_as!r} is not among the rows that prune: {pruning}")
            followed = self.row(row.same_size_as) if row.same_size_as else None
            if followed is not None and followed.strategy == "random_with_replacement" and row.per != "all":
                raise ValueError(
                    f"{row.method}: per = {row.per}, but {followed.method!r} draws with replacement, after which a "
                    f"{row.per} can have more images than before; follow it with per: all"
                )
        return self


class Comparison(Settings):
    """One method against another, by their runs."""

    method: Line = Field(description="what is claimed, in words")
    row: str = Field(description="the method that should have more of the quantity")
    against: str = Field(description="the method that should have less")
    printed: Cells | None = None


class Comparisons(Heading):
    """Tests whether a method of another table has more of a quantity than another (Welch's test)."""

    form: Literal["comparisons"]
    of: Table = Field(description="the table whose rows are compared")
    quantity: AccuracyName = Field(description="what is compared")
    quantities: tuple[Annotated[QuantityName, only_of("comparisons")], ...] = _columns("comparisons")
    rows: tuple[Comparison, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _compares_rows(self) -> "Comparisons":
        for method in (name for row in self.rows for name in (row.row, row.against)):
            if method not in self.of.methods:
                raise ValueError(f"{method!r} is not a method of {self.of.target}: {', '.join(self.of.methods)}")
        if self.of.attacks is not None:
            refuse_unmeasured([self.quantity], self.of.attacks)
        return self


HyperparameterName = Literal[
    "architecture", "optimizer", "momentum", "weight_decay", "epochs", "learning_rate", "epsilon", "attack_step"
]


class HyperparameterRow(Settings):
    """A setting that a paper prints."""

    method: Line = Field(description="its name in our table")
    setting: HyperparameterName
    printed: Cells | None = None


class Hyperparameters(Heading):
    """Hyperparameters of a recipe in this configuration, and in the presets of MNIST and CIFAR-10."""

    form: Literal["hyperparameters"]
    recipe: RecipeName
    architecture: ArchitectureRole | Architecture | None = None
    quantities: tuple[Annotated[QuantityName, only_of("hyperparameters")], ...] = _columns("hyperparameters")
    rows: tuple[HyperparameterRow, ...] = Field(min_length=1)


def _is_of_a_layout(row: Row) -> Row:
    if row.uses_manifest or row.checkpoint is not None:
        raise ValueError(
            f"{row.method!r}: in a plane are all real images, or those that mid_training keeps; a strategy, a radius, "
            "an epsilon or a checkpoint would change nothing"
        )
    return row


LayoutRow = Annotated[Row, AfterValidator(_is_of_a_layout)]
"""A row whose images are shown by t-SNE."""


class Layouts(Heading):
    """Layout of the classes of all real images, or of those that are kept in the middle of a training."""

    form: Literal["layouts"]
    quantities: tuple[Annotated[QuantityName, only_of("layouts")], ...] = _columns("layouts")
    rows: tuple[LayoutRow, ...] = Field(min_length=1)


class Extrapolations(Heading):
    """The settings with which scores are extrapolated best, a row for each score."""

    form: Literal["extrapolations"]
    quantities: tuple[Annotated[QuantityName, only_of("extrapolations")], ...] = _columns("extrapolations")
    rows: tuple[Row, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _rows_extrapolate(self) -> "Extrapolations":
        if direct := [row.method for row in self.rows if not row.extrapolated]:
            raise ValueError(f"the row {direct[0]!r} lacks extrapolated: true")
        return self


def _form(value: Any) -> str:
    return str(value.get("form", "methods") if isinstance(value, dict) else getattr(value, "form", None))


AnyTable = Annotated[
    Annotated[Table, Tag("methods")]
    | Annotated[Comparisons, Tag("comparisons")]
    | Annotated[Hyperparameters, Tag("hyperparameters")]
    | Annotated[Layouts, Tag("layouts")]
    | Annotated[Extrapolations, Tag("extrapolations")],
    Discriminator(
        _form,
        custom_error_type="form",
        custom_error_message=f"a table has keys, and its form is one of {', '.join(get_args(Form))}",
    ),
]
