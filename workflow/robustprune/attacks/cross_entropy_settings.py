"""Settings of PGD on the cross-entropy."""

from pydantic import Field

from robustprune.core.settings import Settings


class CrossEntropyAttack(Settings):
    """PGD on the cross-entropy from one uniform start of each image's own; one long step is RS-FGSM."""

    steps: int = Field(ge=1, description="steps of the attack")
    step: float = Field(gt=0, description="length of a step, in units of epsilon")
