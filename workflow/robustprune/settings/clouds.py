"""Settings of the example in a plane (Kaufmann et al. v1, Figure 6; v2, Figure 1)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from robustprune.settings.base import Settings

CloudPruning = Literal["none", "random", "low_distance", "low_loss", "high_loss"]
"""What is dropped in the middle of the training, by the names that ``mid_training.strategy`` has."""


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
