"""The figures of the papers, as data."""

from typing import Annotated, Literal

from pydantic import Field

from robustprune.settings import Settings
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


AnyFigure = Annotated[PerceptronFigure | PhaseMap | FeatureModelFigure, Field(discriminator="form")]
"""Any of the forms that figures have."""
