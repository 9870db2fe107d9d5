"""What a table shows: quantities, the printed numbers beside them, and what its paper claims."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import Field

from robustprune.core.settings import Line, Settings
from robustprune.evaluation.attack import AttackName
from robustprune.experiments.claim_settings import Relation
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


class Check(Relation):
    """One inequality between two rows of a table, or between a row and a number."""

    quantity: QuantityName
    row: str = Field(description="method of the row")
