"""The figures of the papers, as data."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from robustprune.experiments.rows import Row
from robustprune.settings import Settings
from robustprune.settings.clouds import CloudPruning
from robustprune.settings.perceptron import InputScale


class FigureHeading(Settings):
    """What a figure of any form has."""

    title: str
    target: str = Field(
        pattern=r"^[\w/-]+\.svg$", description="file under results/ that shows it; data and caption lie beside"
    )


class PerceptronFigure(FigureHeading):
    """Errors of perceptrons over alpha, under one attack (PUMA, section 2)."""

    form: Literal["perceptron"]
    epsilon: float = Field(ge=0, description="size of the attack in L-infinity, in units of the inputs")
    filtered: bool = Field(False, description="whether samples of a margin below epsilon are removed first")
    inputs: tuple[InputScale, ...] = Field(
        ("unit_variance", "unit_norm"), min_length=1, description="how long inputs are"
    )


class PhaseMap(FigureHeading):
    """Which strategy wins, over attack, share pruned and alpha."""

    form: Literal["phase_map"]


class FeatureModelFigure(FigureHeading):
    """Accuracies of the model of robust and fragile features (Kaufmann et al. v2, Appendix C)."""

    form: Literal["feature_model"]


class CloudsFigure(FigureHeading):
    """Two clouds in a plane, and the boundary between them with and without pruning."""

    form: Literal["clouds"]
    claim: str = Field(description="what the paper says of it")
    panels: tuple[CloudPruning, ...] = Field(min_length=1, description="what is dropped, a panel each")


class LayoutsFigure(FigureHeading):
    """Images in a plane: all real ones, or those that a training keeps in its middle; a panel a row."""

    form: Literal["layouts"]
    claim: str = Field(description="what the paper says of it")
    rows: tuple[Row, ...] = Field(min_length=1)


class LossDistance(FigureHeading):
    """Loss against 1 / distance of the images, under the network that is pruned by either in its training."""

    form: Literal["loss_distance"]
    loss: Row
    distance: Row
    printed: dict[str, float] = Field({}, description="the paper's correlation, by the name of the data set")

    @model_validator(mode="after")
    def _one_training_with_two_scores(self) -> "LossDistance":
        loss, distance = self.loss.mid_training, self.distance.mid_training
        if loss is None or distance is None or (loss.score, distance.score) != ("loss", "deepfool"):
            raise ValueError("loss and distance are rows with mid_training, by score: loss and score: deepfool")
        if "random" in (loss.strategy, distance.strategy):
            raise ValueError("loss and distance are rows that prune by their scores, not at random")
        same = self.loss.recipe == self.distance.recipe and self.loss.conditions == self.distance.conditions
        if not same or (loss.after_epoch, loss.keep) != (distance.after_epoch, distance.keep):
            raise ValueError("loss and distance are one training until it prunes: they differ in score alone")
        return self


AnyFigure = Annotated[
    PerceptronFigure | PhaseMap | FeatureModelFigure | CloudsFigure | LayoutsFigure | LossDistance,
    Field(discriminator="form"),
]
"""Any of the forms that figures have."""
