"""Settings of the feature model (Kaufmann et al. v2, Appendix C)."""

import math

from pydantic import Field, model_validator

from robustprune.settings.base import Settings


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
