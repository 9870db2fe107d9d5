"""Studies without images: models small enough to be understood."""

from typing import Literal

from pydantic import Field

from robustprune.core.stage import Stage
from robustprune.experiments.studies.settings import CloudSettings, FeatureModelSettings, InputScale, PerceptronGrid
from robustprune.training.specs import MARGIN_MODULES


class PerceptronStage(Stage):
    """Students of a perceptron teacher on every point of a grid, attacked with one epsilon (PUMA, section 2)."""

    room = "experiments.studies.perceptron"
    modules = ("perceptron.stage", "perceptron.student", "perceptron.teacher", "randomness")
    uses_device = False
    kind: Literal["studies"] = "studies"
    study: Literal["perceptron"] = "perceptron"
    features: int = Field(ge=2)
    grid: PerceptronGrid
    epsilon: float = Field(ge=0, description="size of the attack in L-infinity, in units of the inputs")
    filtered: bool = Field(description="whether samples of a margin below epsilon are removed before the pruning")
    inputs: InputScale
    seed: int = Field(ge=0)

    @property
    def scale(self) -> float:
        """Standard deviation of a feature."""
        return 1.0 if self.inputs == "unit_variance" else float(self.features**-0.5)

    @property
    def slug(self) -> str:
        filtered = "-filtered" if self.filtered else ""
        return f"perceptron-{self.inputs.replace('_', '-')}-{format(self.epsilon, 'g').replace('.', 'p')}{filtered}"


class FeatureModelStage(Stage):
    """Points with a robust and with fragile features, pruned by loss (Kaufmann et al. v2, Appendix C)."""

    room = "experiments.studies.feature_model"
    modules = (
        "feature_model.formulas",
        "feature_model.points",
        "feature_model.stage",
        "perceptron.student",
        "randomness",
    )
    uses_device = False
    kind: Literal["studies"] = "studies"
    study: Literal["feature_model"] = "feature_model"
    settings: FeatureModelSettings

    @property
    def slug(self) -> str:
        return "feature-model"


class CloudsStage(Stage):
    """A network trained on two clouds in a plane, with and without pruning (Kaufmann et al. v1 and v2)."""

    room = "experiments.studies.clouds"
    modules = (
        "attacks.norms",
        "attacks.pgd",
        "clouds.points",
        "clouds.stage",
        "clouds.training",
        *MARGIN_MODULES,
        "margins.deepfool",
        "pruning.candidates",
        "pruning.strategies",
        "randomness",
        "sample_noise",
        "training.mid_training",
    )
    uses_device = False
    kind: Literal["studies"] = "studies"
    study: Literal["clouds"] = "clouds"
    settings: CloudSettings

    @property
    def slug(self) -> str:
        return "clouds"
