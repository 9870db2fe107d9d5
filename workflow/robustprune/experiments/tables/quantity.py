"""Quantities: the columns of tables, one function per quantity in ``experiments.tables.quantities``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator

from robustprune.core.declarations import Declarations, Named
from robustprune.evaluation.attack import attack_words

if TYPE_CHECKING:
    from robustprune.experiments.intervals import Cell
    from robustprune.experiments.runs import RowRuns

Form = Literal["methods", "comparisons", "hyperparameters", "layouts", "extrapolations"]
"""What the rows of a table are."""

Spread = Literal["std", "ci95"]


@dataclass(frozen=True)
class Quantity:
    """A column.

    Attributes:
        heading: for people, with the unit.
        decimals: digits behind the point that are worth showing.
        cell: how it comes from a row's runs.
        against_baseline: whether its difference to the baseline is worth telling.
        spread: what is shown beside a mean, where the paper prints no spread that decides it.
    """

    heading: str
    decimals: int
    cell: Callable[[RowRuns], Cell]
    against_baseline: bool = False
    spread: Spread = "std"


QUANTITIES: Declarations[Quantity] = Declarations("quantity", "robustprune.experiments.tables")
QuantityName = Annotated[str, Named(QUANTITIES)]

CellOf = Callable[["RowRuns"], "Cell"]


def quantity(
    name: str,
    *,
    form: Form = "methods",
    heading: str = "",
    decimals: int,
    attack: str | None = None,
    compared: bool = False,
    default: bool = True,
    spread: Spread = "std",
) -> Callable[[CellOf], CellOf]:
    """Declare a column by a function from a row's runs to its cell.

    Args:
        name: the column's name in tables and claims.
        form: the form of the tables that can have it.
        heading: for people, with the unit; empty for an accuracy in percent, which is headed by its attack.
        decimals: digits behind the point that are worth showing.
        attack: the attack that it is measured under, and no other; each attack measures the clean accuracy, too.
        compared: True if methods can be compared by it.
        default: True if a table has it that names no columns.
        spread: what is shown beside a mean, where the paper prints no spread that decides it.
    """
    del form, default  # the plan reads them as text
    shown = heading or f"{attack_words(str(attack))}, %"

    def declare(cell: CellOf) -> CellOf:
        QUANTITIES.declare(name, Quantity(shown, decimals, cell, against_baseline=compared, spread=spread))
        return cell

    return declare


def columns_of(form: Form) -> tuple[str, ...]:
    """Return the columns of a table of that form that names none; those that are empty in all rows are left out."""
    facts = {name: QUANTITIES.facts(name) for name in QUANTITIES}
    return tuple(name for name, of in facts.items() if of.get("form", "methods") == form and of.get("default", True))


def only_of(form: Form) -> AfterValidator:
    """Return the mark of a field whose columns are those that tables of that form can have."""

    def check(name: str) -> str:
        if (of := QUANTITIES.facts(name).get("form", "methods")) != form:
            allowed = ", ".join(other for other in QUANTITIES if QUANTITIES.facts(other).get("form", "methods") == form)
            raise ValueError(f"is a column of tables of {of}; those of {form} have {allowed}")
        return name

    return AfterValidator(check)


def _compared(name: str) -> str:
    if not QUANTITIES.facts(name).get("compared"):
        raise ValueError(f"methods are not compared by {name}; allowed are {', '.join(accuracies())}")
    return name


def accuracies() -> tuple[str, ...]:
    """Return the columns that methods can be compared by."""
    return tuple(name for name in QUANTITIES if QUANTITIES.facts(name).get("compared"))


AccuracyName = Annotated[QuantityName, AfterValidator(_compared)]
"""A column that methods can be compared by."""


def attack_of(name: str) -> str | None:
    """Return the attack that a column is measured under, and no other; None where it does not depend on one."""
    attack: str | None = QUANTITIES.facts(name).get("attack")
    return attack


def refuse_unmeasured(quantities: Iterable[str], attacks: Sequence[str]) -> None:
    """Raise ValueError for a column that is measured under an attack that is not among these."""
    for name in quantities:
        if (attack := attack_of(name)) not in (None, "clean", *attacks):
            raise ValueError(f"{name} is measured under {attack}, and attacks = {', '.join(attacks)}")
