"""Claims as they are written in a file of experiments: a sentence, and the inequalities that check it."""

from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import Field, model_validator

from robustprune.core.settings import Line, Settings
from robustprune.images.settings import DataName


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
        """The other side of the comparison."""
        return next(value for value in (self.above, self.below, self.near) if value is not None)


AnyCheck = TypeVar("AnyCheck", bound=Relation)


class Claim(Settings, Generic[AnyCheck]):
    """A paper's claim on a table or a figure, and when a run agrees with it."""

    claim: Line = Field(description="a sentence")
    data: DataName | None = Field(None, description="the one data set that it is said of; it is not judged on others")
    checks: Annotated[tuple[AnyCheck, ...], Field(min_length=1)]
