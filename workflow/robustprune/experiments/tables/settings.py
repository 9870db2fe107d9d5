"""What a table shows: quantities, the printed numbers beside them, and what its paper claims."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import Field, model_validator

from robustprune.core.settings import Line, Settings
from robustprune.evaluation.settings import AttackName
from robustprune.images.settings import DataName

AccuracyName = Literal["accuracy", "robustness_cw", "robustness_pgd", "robustness_pgd_50_10", "autoattack"]
"""The columns that methods can be compared by."""

OfMethod = Literal[
    AccuracyName,
    "doubtful_runs",
    "square_gain",
    "zero_gradients",
    "training_seconds",
    "collapsed_runs",
    "below_chance",
    "images_kept",
    "test_images",
    "autoattack_images",
    "speed_steps",
    "speed_stopped",
    "speed_epoch",
]
OfComparison = Literal["p_value", "gain"]
OfHyperparameter = Literal["configured", "mnist", "cifar10"]
OfLayout = Literal["density", "separation"]
OfExtrapolation = Literal["k", "encoding", "metric", "sources", "mae", "mae_ratio", "rank_correlation"]

QuantityName = Literal[OfMethod, OfComparison, OfHyperparameter, OfLayout, OfExtrapolation]
"""The columns there are, by what a table's rows are; ``tables.quantities`` says what each is."""

ATTACKS: Mapping[QuantityName, AttackName] = {
    "accuracy": "clean",
    "robustness_cw": "cw",
    "robustness_pgd": "pgd",
    "robustness_pgd_50_10": "pgd_50_10",
    "autoattack": "autoattack",
    "square_gain": "autoattack",
    "below_chance": "autoattack",
    "autoattack_images": "autoattack",
}
"""What is measured under one attack and no other; each attack measures the clean accuracy, too."""


def refuse_unmeasured(quantities: Iterable[QuantityName], attacks: Sequence[AttackName]) -> None:
    """Raise ValueError for a column that is measured under an attack that is not among these."""
    for quantity in quantities:
        if (attack := ATTACKS.get(quantity)) not in (None, "clean", *attacks):
            raise ValueError(f"{quantity} is measured under {attack}, and attacks = {', '.join(attacks)}")


Form = Literal["methods", "comparisons", "hyperparameters", "layouts", "extrapolations"]
"""What the rows of a table are."""

OF_METHODS: tuple[OfMethod, ...] = (
    *("accuracy", "robustness_cw", "robustness_pgd", "robustness_pgd_50_10", "autoattack"),
    *("doubtful_runs", "square_gain", "zero_gradients", "training_seconds", "collapsed_runs"),
    *("images_kept", "test_images", "autoattack_images"),
)
"""The columns of a table of methods that names none; those that are empty in all rows are left out."""

Cells = str | dict[str, str]
"""Which printed row: the text in the file's first column, or in each of some columns."""


class Printed(Settings):
    """The numbers that a paper prints."""

    file: str = Field(pattern=r"^\w+\.csv$", description="in workflow/reference")
    setting: Line = Field(description="what they were measured on and with, for readers")
    beside: dict[QuantityName, str] = Field(description="the file's column that stands beside a quantity of ours")
    instead: dict[DataName, dict[str, str | None]] = Field(
        {},
        description="by the name of our data set: cells of the file that stand in for those that rows name; null: none",
    )


class Relation(Settings):
    """One inequality of a claim, with what it is against."""

    above: str | float | None = Field(
        None, description="what it is above, or not below by more than ``within``: another row's method, or a number"
    )
    below: str | float | None = Field(None, description="what it is below, or not above by more than ``within``")
    near: str | float | None = Field(None, description="what it is not further from than ``within``")
    within: float | None = Field(None, gt=0, description="in the quantity's unit; near needs it")

    @model_validator(mode="after")
    def _one_relation(self) -> Self:
        if sum(value is not None for value in (self.above, self.below, self.near)) != 1:
            raise ValueError("a check has one of above, below and near")
        if self.near is not None and self.within is None:
            raise ValueError("near needs within")
        return self

    @property
    def relation(self) -> Literal["above", "below", "near"]:
        """Which of the three it is."""
        return "above" if self.above is not None else "below" if self.below is not None else "near"

    @property
    def other(self) -> str | float:
        """What is compared with."""
        return next(value for value in (self.above, self.below, self.near) if value is not None)


AnyCheck = TypeVar("AnyCheck", bound=Relation)


class Claim(Settings, Generic[AnyCheck]):
    """What a paper says of a table or a figure, and when a run agrees with it."""

    claim: Line = Field(description="a sentence")
    data: DataName | None = Field(None, description="the one data set that it is said of; it is not judged on others")
    checks: Annotated[tuple[AnyCheck, ...], Field(min_length=1)]


class Check(Relation):
    """One inequality between two rows of a table, or between a row and a number."""

    quantity: QuantityName
    row: str = Field(description="method of the row")
