"""The networks, and trained ones from elsewhere."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from robustprune.core.settings import DIGEST_PATTERN, Settings

Architecture = Literal[
    "small_cnn",
    "fast_cnn",
    "resnet18",
    "preact_resnet18",
    "preact_resnet18_swish",
    "fast_preact_resnet18",
    "wrn28_10_swish",
    "wrn70_16_swish",
]
"""The networks; each is a module of ``models``."""

ArchitectureRole = Literal["similar", "wide", "widest", "fast"]
"""A network by its part in a paper, which is another one at each preset."""


class ArchitectureRoles(Settings):
    """The networks that rows ask for by their part. The defaults are the papers' own."""

    similar: Architecture = Field("preact_resnet18", description="PUMA, Figure 8: one of about as many parameters")
    wide: Architecture = Field("wrn28_10_swish", description="PUMA, Table 9 and Figure 8, and Nieth et al.")
    widest: Architecture = Field("wrn70_16_swish", description="PUMA, Table 9")
    fast: Architecture = Field("fast_preact_resnet18", description="Kaufmann et al., as Wong et al.")


WITHOUT_NORMALIZATION = ("small_cnn", "fast_cnn")
"""The networks that have no place for a normalisation of the input."""

WITHOUT_BATCHNORM = ("small_cnn", "fast_cnn")
"""The networks in which no image's logits depend on the others of its batch."""

NORMALIZING = ("preact_resnet18_swish", "fast_preact_resnet18", "wrn28_10_swish", "wrn70_16_swish")
"""The networks that normalise their input where nothing else is said; for colour, with CIFAR-10's constants."""

Positive = Annotated[float, Field(gt=0)]


class NormalizationSettings(Settings):
    """What is done to an image, pixels in [0, 1], before the first layer: (image - mean) / std."""

    mean: tuple[float, ...] = Field(min_length=1, description="taken away from each channel")
    std: tuple[Positive, ...] = Field(min_length=1, description="what each channel is divided by")


class CheckpointSettings(Settings):
    """A trained network in a file of another project or run."""

    path: str = Field(min_length=1, description="the file: safetensors, or what torch.save wrote")
    sha256: str = Field(pattern=DIGEST_PATTERN, description="SHA-256 of the file, so that no other is taken for it")
    architecture: Architecture = Field(description="the network whose weights it holds")
    entry: str | None = Field(
        None, description="entry of the file with the state dict; null: the file itself, or the entry that is usual"
    )
    normalization: NormalizationSettings | None = Field(
        None, description="of the input; null: what the architecture does, with the constants of CIFAR-10"
    )

    @model_validator(mode="after")
    def _normalization_has_a_place(self) -> "CheckpointSettings":
        if self.normalization is not None and self.architecture in WITHOUT_NORMALIZATION:
            raise ValueError(f"{self.architecture} takes pixels in [0, 1] as they are; leave out normalization")
        return self
