"""The stage that turns a checkpoint from elsewhere into a model like any other."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from robustprune.core.errors import UserError
from robustprune.core.files import file_digest, sha256
from robustprune.core.job import Job
from robustprune.core.settings import DIGEST_PATTERN, Settings
from robustprune.core.work import weights_bytes
from robustprune.networks.architecture import Architecture, normalization_of
from robustprune.networks.classifier import ClassifierStage

if TYPE_CHECKING:
    from torch import nn

    from robustprune.planning.plan import Plan


Positive = Annotated[float, Field(gt=0)]


class NormalizationSettings(Settings):
    """Normalisation of an image, pixels in [0, 1], before the first layer: (image - mean) / std."""

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
        if self.normalization is not None and normalization_of(self.architecture) == "none":
            raise ValueError(f"{self.architecture} takes pixels in [0, 1] as they are; leave out normalization")
        return self


class ImportedModelStage(ClassifierStage):
    """A classifier that was trained elsewhere. ``digest`` is its file's SHA-256, ``location`` where it lies now."""

    resources = "ingest"
    uses_device = False
    origin: Literal["imported"] = "imported"
    imported = True
    digest: str = Field(pattern=DIGEST_PATTERN)
    entry: str | None
    normalization: NormalizationSettings | None
    location: str

    @property
    def slug(self) -> str:
        return f"imported-{self.architecture.replace('_', '')}"

    def bytes_left(self, plan: "Plan", parameters: Mapping[str, int]) -> int:
        """Return the size of the weights."""
        return weights_bytes(self.network(), parameters)

    def prepared(self, network: "nn.Module") -> "nn.Module":
        """Return the network with this checkpoint's normalisation, where it has one."""
        from robustprune.networks.normalization import Normalization

        if self.normalization is not None:
            if not hasattr(network, "normalize"):
                raise ValueError(f"{self.architecture} has no place for a normalisation of its input")
            network.normalize = Normalization(self.normalization.mean, self.normalization.std)
        return network

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the checkpoint's weights.

        Returns:
            parameters, how many there are.

        Raises:
            UserError: when the file is gone, is another than its digest says, or does not fit; see ``load_foreign``.
        """
        from robustprune.networks.foreign import load_foreign
        from robustprune.networks.weights import WEIGHTS_FILE, save_weights

        path = Path(self.location)
        if not path.is_file():
            raise UserError(f"{path} was there when the plan was made and is gone now; bring it back or plan again")
        if sha256(path) != self.digest:
            raise UserError(f"{path}: the content changed since the plan was made; bring it back or plan again")
        model = load_foreign(self, path)
        save_weights(model.state_dict(), job.partial / WEIGHTS_FILE)
        job.publish(WEIGHTS_FILE)
        return {"parameters": sum(value.numel() for value in model.parameters())}


def checkpoint_file(name: str, checkpoint: CheckpointSettings) -> str:
    """Return the absolute path of a checkpoint. Raises UserError if it is missing or has another SHA-256."""
    path = Path(checkpoint.path)
    if not path.is_file():
        raise UserError(f"checkpoints.{name}.path = {checkpoint.path}: there is no such file")
    actual = file_digest(path, "sha256")
    if actual != checkpoint.sha256:
        raise UserError(
            f"checkpoints.{name}.sha256 = {checkpoint.sha256} is not that of {checkpoint.path}, which is {actual}"
        )
    return str(path.absolute())
