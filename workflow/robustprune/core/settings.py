"""What every group of settings is made of: closed models, radii as fractions, the adversary."""

import re
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
)

DIGEST_PATTERN = "^[0-9a-f]{64}$"
COLUMN_PATTERN = "^[a-z][a-z0-9_]{0,63}$"
LONGEST_NUMBER = 400  # characters; products of fractions grow, and are written in full


class Settings(BaseModel):
    """A closed, immutable group of settings: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _parse_fraction(value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Fraction)):
        raise ValueError("should be a number or a fraction such as 8/255")  # noqa: TRY004  # for pydantic
    text = str(value)
    if len(text) > LONGEST_NUMBER or re.search(r"[eE][+-]?\d{3}", text):  # 1e999999999 would fill the memory
        raise ValueError("should be a number or a fraction such as 8/255, of usual size")
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError("should be a number or a fraction such as 8/255") from None


Exact = Annotated[Fraction, BeforeValidator(_parse_fraction), PlainSerializer(str, return_type=str)]
"""A number kept exactly as it was written: ``8/255`` stays ``8/255``, 0.1 is 1/10."""


Line = Annotated[str, Field(min_length=1), AfterValidator(lambda text: " ".join(text.split()))]
"""Text for people, which stands in a cell or a comment: its whitespace is single spaces."""

Radius = Annotated[Exact, Field(ge=0, description="a distance between images with pixels in [0, 1]")]
"""A distance in units of the pixel range [0, 1]."""

Norm = Literal["Linf", "L2"]

Precision = Literal["float32", "bfloat16"]
"""Of a network's arithmetic; its weights are float32."""

Weights = Literal["last", "best"]
"""Of a trained model, averaged: those of the last step, or of the epoch that was best in validation."""


class ThreatModel(Settings):
    """Bounds of the adversary."""

    norm: Norm = Field("Linf", description="norm in which the perturbation is bounded")
    epsilon: Radius = Field(gt=0, description="largest perturbation, as a fraction of the pixel range, e.g. 8/255")

    @field_validator("epsilon")
    @classmethod
    def _within_the_pixel_range(cls, value: Fraction, info: ValidationInfo) -> Fraction:
        if info.data.get("norm") == "Linf" and value >= 1:
            raise ValueError("is a fraction of the pixel range, so it should be below 1 in Linf; write 8/255, not 8")
        return value


class OtherThreat(ThreatModel):
    """The adversary of rows that name the other norm, and the step that fits it."""

    step_size: Radius = Field(gt=0, description="step of the training attacks at radius epsilon")


class CrossEntropyAttack(Settings):
    """PGD on the cross-entropy from one uniform start of each image's own; one long step is RS-FGSM."""

    steps: int = Field(ge=1, description="steps of the attack")
    step: float = Field(gt=0, description="length of a step, in units of epsilon")
