"""The stage that turns a checkpoint from elsewhere into a model like any other."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.files import sha256
from robustprune.core.job import Job
from robustprune.core.settings import DIGEST_PATTERN
from robustprune.core.stage import ImageShape, Stage, architecture_modules
from robustprune.networks.settings import Architecture, NormalizationSettings


class ImportedModelStage(Stage):
    """A classifier that was trained elsewhere. ``digest`` is its file's SHA-256, ``location`` where it lies now."""

    room = "networks.imported"
    modules = ("models.foreign", "models.normalization")
    resources = "ingest"
    uses_device = False
    kind: Literal["models"] = "models"
    origin: Literal["imported"] = "imported"
    architecture: Architecture
    classes: int
    image_shape: ImageShape
    digest: str = Field(pattern=DIGEST_PATTERN)
    entry: str | None
    normalization: NormalizationSettings | None
    location: str

    @property
    def slug(self) -> str:
        return f"imported-{self.architecture.replace('_', '')}"

    @property
    def decisive_modules(self) -> tuple[str, ...]:
        return (*self.modules, *architecture_modules(self.architecture))

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the checkpoint's weights.

        Returns:
            parameters, how many there are.

        Raises:
            UserError: when the file is gone, is another than its digest says, or does not fit; see ``load_foreign``.
        """
        from robustprune.networks.checkpoint import WEIGHTS_FILE, save_weights
        from robustprune.networks.foreign import load_foreign

        path = Path(self.location)
        if not path.is_file():
            raise UserError(f"{path} was there when the plan was made and is gone now; bring it back or plan again")
        if sha256(path) != self.digest:
            raise UserError(f"{path}: the content changed since the plan was made; bring it back or plan again")
        model = load_foreign(self, path)
        save_weights(model.state_dict(), job.partial / WEIGHTS_FILE)
        job.publish(WEIGHTS_FILE)
        return {"parameters": sum(value.numel() for value in model.parameters())}
