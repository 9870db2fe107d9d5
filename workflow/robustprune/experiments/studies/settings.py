"""Settings of the perceptron study (PUMA, section 2). See papers.md, P17, P18."""

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from robustprune.core.settings import Settings


class LayoutSettings(Settings):
    """t-SNE of the first principal components (Kaufmann et al. v1, Appendix A)."""

    images: int | None = Field(5000, gt=0, description="first images of the real training pool; null for all")
    components: int = Field(50, ge=2, description="principal components that t-SNE sees")
    perplexity: float = Field(30.0, ge=1, description="t-SNE's number of neighbours, about")

    @model_validator(mode="after")
    def _there_are_neighbours(self) -> Self:
        if self.images is not None and self.images <= self.perplexity:
            raise ValueError(f"images = {self.images} should be more than perplexity = {self.perplexity:g}")
        return self


class FeatureModelSettings(Settings):
    """Points of which a share has a robust feature that can be trusted, and how they are simulated.

    The paper gives no numbers but the fragile features' mean, 3 / sqrt(d).
    """

    fragile_features: int = Field(
        100, ge=37, description="d; from 37 on an attack of 2 eta is smaller than the robust feature"
    )
    robust_share: float = Field(0.7, gt=0, lt=1, description="share of points of D_robust, p_R")
    robust_agreement: float = Field(
        0.95, gt=0.5, lt=1, description="how often the robust feature has the label's sign in D_robust, p_robust"
    )
    fragile_agreement: float = Field(0.65, gt=0.5, lt=1, description="the same in D_fragile, p_fragile")
    training_attack: float = Field(
        0.75, ge=0, description="size of the attack that classifiers are trained under, in units of eta"
    )
    training_points: int = Field(5000, ge=100, description="points that are pruned and trained on")
    test_points: int = Field(20000, ge=100, description="points that accuracies are counted on")
    trials: int = Field(20, ge=2, description="independent trainings of each point of a curve")
    seed: int = Field(0, ge=0, description="of all draws")

    @model_validator(mode="after")
    def _robust_points_agree_more(self) -> "FeatureModelSettings":
        if self.fragile_agreement >= self.robust_agreement:
            raise ValueError(
                f"fragile_agreement = {self.fragile_agreement} should be below robust_agreement = "
                f"{self.robust_agreement}"
            )
        return self

    @property
    def mean(self) -> float:
        """Mean of a fragile feature times the label, eta."""
        return 3 / math.sqrt(self.fragile_features)

    @property
    def agreement(self) -> float:
        """How often the robust feature of any point has the label's sign.

        By the law of total probability p_R p_robust + (1 - p_R) p_fragile; the paper prints p_fragile and p_robust
        swapped, which would have the less reliable feature more often right the more reliable points there are.
        """
        return self.robust_share * self.robust_agreement + (1 - self.robust_share) * self.fragile_agreement

    @property
    def printed_agreement(self) -> float:
        """The same as the paper prints it."""
        return self.robust_share * self.fragile_agreement + (1 - self.robust_share) * self.robust_agreement


CloudPruning = Literal["none", "random", "low_distance", "low_loss", "high_loss"]
"""What is dropped in the middle of the training, by the names that ``mid_training.strategy`` has."""


GRID = 101  # places along each axis


class CloudSettings(Settings):
    """Two normal clouds in the unit square that overlap, and a small network that is trained on them by RS-FGSM."""

    points: int = Field(400, ge=20, description="points that are trained on, half of each cloud")
    test_points: int = Field(2000, ge=20, description="points that accuracies are counted on")
    distance: float = Field(0.3, gt=0, lt=1, description="between the clouds' means")
    spread: float = Field(0.12, gt=0, description="standard deviation of a cloud along each axis")
    epsilon: float = Field(0.05, gt=0, description="largest perturbation in L-infinity")
    width: int = Field(64, ge=1, description="units of each of two hidden layers")
    learning_rate: float = Field(0.01, gt=0, description="Adam's")
    steps_before: int = Field(50, ge=1, description="steps on all points, before some are dropped")
    steps_after: int = Field(350, ge=1, description="steps on the rest")
    keep: float = Field(0.6, gt=0, lt=1, description="share of the points that is kept")
    trials: int = Field(5, ge=2, description="independent clouds and trainings")
    seed: int = Field(0, ge=0, description="of all draws")

    @model_validator(mode="after")
    def _something_is_kept_and_dropped(self) -> Self:
        if round((1 - self.keep) * self.points) in (0, self.points):
            raise ValueError(f"keep = {self.keep} of points = {self.points} should keep some and drop some")
        return self


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
