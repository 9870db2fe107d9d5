"""Vectors that images are compared by."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from robustprune.core.settings import DIGEST_PATTERN, Settings, Weights
from robustprune.core.stage import ModelId, PoolId, SharedRows, Stage, slug_of


class ModelEncoder(Settings):
    """One of our models; what goes into its last linear layer."""

    form: Literal["model"] = "model"
    model: ModelId
    weights: Weights = Field("last", exclude_if=lambda weights: weights == "last")  # so that older ids stay

    def describe(self) -> str:
        """For people."""
        return f"last features of {self.model}" + (", best weights" if self.weights == "best" else "")


class TorchvisionEncoder(Settings):
    """A classifier that torchvision has, with weights in a file; what goes into its last linear layer."""

    form: Literal["torchvision"] = "torchvision"
    name: str
    digest: str = Field(pattern=DIGEST_PATTERN)
    resize: int
    location: str

    def describe(self) -> str:
        """For people."""
        return f"last features of torchvision's {self.name} with the weights {Path(self.location).name}"


class FileEncoder(Settings):
    """Embeddings that somebody else made: an npy file with one row an image of the pool."""

    form: Literal["file"] = "file"
    digest: str = Field(pattern=DIGEST_PATTERN)
    location: str

    def describe(self) -> str:
        """For people."""
        return f"read from {Path(self.location).name}"


class EmbeddingStage(Stage):
    """A vector for each image of a pool, un-augmented."""

    room = "scores.embeddings.stage"
    modules = ("attacks.inputs", "embeddings.encoders")
    kind: Literal["embeddings"] = "embeddings"
    pool: PoolId
    encoder: Annotated[ModelEncoder | TorchvisionEncoder | FileEncoder, Field(discriminator="form")]
    dtype: Literal["float32", "float16"]

    @property
    def slug(self) -> str:
        return f"embedding-{slug_of(self.pool)}"

    @property
    def needs_device(self) -> bool:
        return not isinstance(self.encoder, FileEncoder)

    @property
    def shared_rows(self) -> SharedRows:
        return SharedRows(pool=self.pool)
