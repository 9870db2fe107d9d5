"""Settings of the perceptron study (PUMA, section 2). See papers.md, P17, P18."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from robustprune.settings.base import Settings

InputScale = Literal["unit_variance", "unit_norm"]
"""How long an input is: features of variance 1, as PUMA prints it, or of variance 1/K, as perceptron theory has it."""


FROM_LOAD = 2.0
"""Alpha from which on a power law is looked for; PUMA: below it other things happen."""


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("should rise, each value once")
    return values


Ratios = Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1), AfterValidator(_rising)]
Loads = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1), AfterValidator(_rising)]
Epsilons = Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=2), AfterValidator(_rising)]


class PerceptronCurve(Settings):
    """What is pruned: nothing, or a share of the samples, of highest (easy) or lowest (difficult) margin."""

    strategy: Literal["none", "prune_easy", "prune_difficult"]
    ratio: float = Field(0.0, ge=0, lt=1)


class PerceptronGrid(Settings):
    """The points of a study: every curve at every load, in some trials."""

    trials: int = Field(ge=2, description="independent trials of a point")
    loads: Loads = Field(description="samples that are kept for each feature, alpha; above 0, rising")
    easy_ratios: Ratios = Field(description="shares of easy samples that are pruned; above 0, below 1, rising")
    difficult_ratios: Ratios = Field(description="the same of difficult ones")

    @property
    def curves(self) -> tuple[PerceptronCurve, ...]:
        """No pruning, and each ratio of each strategy."""
        easy = (PerceptronCurve(strategy="prune_easy", ratio=ratio) for ratio in self.easy_ratios)
        difficult = (PerceptronCurve(strategy="prune_difficult", ratio=ratio) for ratio in self.difficult_ratios)
        return (PerceptronCurve(strategy="none"), *easy, *difficult)


class PerceptronSettings(Settings):
    """The study's scale. The defaults are the paper's K, and a few minutes of one core for each of its figures."""

    features: int = Field(200, ge=2, description="features of an input, K")
    seed: int = Field(0, ge=0, description="of all draws")
    curves: PerceptronGrid = Field(
        PerceptronGrid(
            trials=20,
            loads=(0.5, 1, 2, 4, 8, 20, 50),
            easy_ratios=(0.5, 0.8, 0.95),
            difficult_ratios=(0.5, 0.8),
        ),
        description="of PUMA's figures 1 to 4",
    )
    phases: PerceptronGrid = Field(
        PerceptronGrid(
            trials=5,
            loads=(2, 8, 32),
            easy_ratios=(0.3, 0.5, 0.7, 0.8, 0.9, 0.95),
            difficult_ratios=(0.3, 0.5, 0.7, 0.8, 0.9, 0.95),
        ),
        description="of the map of which strategy wins",
    )
    phase_epsilons: Epsilons = Field(
        (0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04),
        description="attacks on that map, for inputs of unit norm; at least 0, rising",
    )

    @model_validator(mode="after")
    def _exponents_have_two_halves(self) -> Self:
        if sum(load >= FROM_LOAD for load in self.curves.loads) < 3:
            raise ValueError(
                f"curves.loads = {list(self.curves.loads)} should have three values of at least {FROM_LOAD:g}, over "
                "the halves of which exponents are fitted"
            )
        return self

    @model_validator(mode="after")
    def _every_student_has_samples(self) -> Self:
        for name, grid in (("curves", self.curves), ("phases", self.phases)):
            if round(grid.loads[0] * self.features) < 1:
                raise ValueError(
                    f"{name}.loads = {list(grid.loads)} should each keep a sample at least of {self.features} features"
                )
        return self

    @model_validator(mode="after")
    def _phases_compare_equal_shares(self) -> Self:
        if self.phases.easy_ratios != self.phases.difficult_ratios:
            raise ValueError("phases.easy_ratios and phases.difficult_ratios should be the same, as they are compared")
        return self
