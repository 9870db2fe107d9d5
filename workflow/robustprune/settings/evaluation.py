"""Settings of evaluating a trained model."""

from pydantic import Field

from robustprune.settings.base import Radius, Settings


class EvaluationSettings(Settings):
    """The attacks on a trained model, and on how many test images. Facts: sections 4 and 7."""

    images: int | None = Field(None, gt=0, description="first test images used; null for all")
    pgd_steps: int = Field(40, ge=1, description="steps of PGD on the CW margin")
    step_size: Radius = Field(description="step of PGD")
    autoattack_images: int | None = Field(
        None, gt=0, description="first test images attacked by AutoAttack; null for all"
    )
    seed: int = Field(0, ge=0, description="seed of the attacks")
