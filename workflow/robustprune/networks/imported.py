"""The stage that turns a checkpoint from elsewhere into a model like any other."""

from pathlib import Path
from typing import Any

from robustprune.core.errors import UserError
from robustprune.core.files import sha256
from robustprune.core.job import Job
from robustprune.networks.checkpoint import WEIGHTS_FILE, save_weights
from robustprune.networks.foreign import load_foreign
from robustprune.training.specs import ImportedModelStage


def run(job: Job, spec: ImportedModelStage) -> dict[str, Any]:
    """Publish the checkpoint's weights.

    Returns:
        parameters, how many there are.

    Raises:
        UserError: when the file is gone, is another than its digest says, or does not fit; see ``load_foreign``.
    """
    path = Path(spec.location)
    if not path.is_file():
        raise UserError(f"{path} was there when the plan was made and is gone now; bring it back or plan again")
    if sha256(path) != spec.digest:
        raise UserError(f"{path}: the content changed since the plan was made; bring it back or plan again")
    model = load_foreign(spec, path)
    save_weights(model.state_dict(), job.partial / WEIGHTS_FILE)
    job.publish(WEIGHTS_FILE)
    return {"parameters": sum(value.numel() for value in model.parameters())}
