"""Settings of DeepFool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from robustprune.attacks.margin_method import BisectionSteps, MarginMethod, margin_method

if TYPE_CHECKING:
    from torch import Tensor

    from robustprune.attacks.norms import NormGeometry
    from robustprune.attacks.walk import Crossing, Walk
    from robustprune.networks.architecture import Classifier

DeepFoolTarget = Annotated[
    Literal["rechosen", "fixed"],
    Field(
        description="the class that DeepFool steps to: rechosen, the nearest in every step, as in its paper; fixed, "
        "the nearest in the first step, as in Kaufmann et al. (papers.md, K4)",
    ),
]

Box = Annotated[
    bool,
    Field(
        exclude_if=bool,  # so that older ids stay
        description="keep each point in [0, 1]; false: let it leave, as in Kaufmann et al.'s text (papers.md, K4)",
    ),
]

USUAL_GRADIENTS = 10  # an image, at slope_ratio 1.75 and ten classes: an estimate


@margin_method("deepfool")
class DeepFoolSettings(MarginMethod):
    """DeepFool with bisection to the boundary (Moosavi-Dezfooli et al. 2016)."""

    method: Literal["deepfool"] = Field("deepfool", description="the method's own name")
    max_steps: int = Field(50, ge=1, description="linearisation steps before a sample is given up")
    overshoot: float = Field(0.02, ge=0, description="share by which a step goes beyond the linearised boundary")
    candidates: int | None = Field(
        None, ge=1, description="other classes considered in a step, those of the largest logits; null for all"
    )
    slope_ratio: float | None = Field(
        1.75,
        ge=1,
        description="how much steeper a logit is taken to be than known, for its class to be worth a gradient: a "
        "heuristic, whose error each record tells; null for all classes",
    )
    target: DeepFoolTarget = "rechosen"
    box: Box = True
    bisection_steps: BisectionSteps = 10
    negative: Literal["targeted", "nearest", "unsigned"] = Field(
        "targeted",
        description="margin of a misclassified image: targeted, minus the distance to its own class; nearest, minus "
        "the distance from the predicted class; unsigned, that distance itself",
    )

    @property
    def exhaustive(self) -> DeepFoolSettings:
        """The same with every class differentiated in every step."""
        return self.model_copy(update={"slope_ratio": None, "candidates": None})

    @property
    def passes(self) -> tuple[int, int]:
        """Forward passes and gradients of an image, as is usual."""
        return self.bisection_steps, USUAL_GRADIENTS

    def walk(self, model: Classifier, images: Tensor, logits: Tensor, crossing: Crossing, norm: NormGeometry) -> Walk:
        """See ``MarginMethod.walk``."""
        from robustprune.attacks.deepfool import DeepFool

        return DeepFool(model, images, logits, crossing, settings=self, norm=norm)
