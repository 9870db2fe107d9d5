"""record.json: written last, it marks a stage as complete and says how it was made."""

import importlib.metadata
import platform
import resource
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from robustprune import __version__
from robustprune.core.errors import UserError
from robustprune.core.files import digest, write_text
from robustprune.core.paths import KEPT_RECORD_FILE, RECORD_FILE

PACKAGES = ("torch", "torchvision", "numpy", "zarr", "pyarrow", "scikit-learn", "pyautoattack", "snakemake")


class Record(BaseModel):
    """Record of a finished stage: what made its outputs, on what, in how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    finished: str  # ISO 8601, UTC
    seconds: float  # of the attempt that finished
    peak_memory_mb: float  # resident, of the process
    peak_gpu_memory_mb: float
    device: str
    host_platform: str
    versions: dict[str, str]
    digests: dict[str, str]  # BLAKE3 of each output
    facts: dict[str, Any]  # what the stage found worth telling: counts, accuracies, training seconds

    def write(self, directory: Path) -> None:
        """Write the record into the stage's directory, atomically: first the copy that is kept, then record.json."""
        for name in (KEPT_RECORD_FILE, RECORD_FILE):
            write_text(directory / name, self.model_dump_json(indent=2) + "\n")


def restore_record(directory: Path) -> bool:
    """Put record.json back where only Snakemake took it away; returns whether the stage is complete.

    When Snakemake is killed, its jobs go on. Started again, it takes what they finished meanwhile for incomplete and
    deletes record.json. The stage is complete all the same if every output is what the kept copy says.
    """
    if (directory / RECORD_FILE).is_file():
        return True
    if not (directory / KEPT_RECORD_FILE).is_file():
        return False
    record = read_record(directory, KEPT_RECORD_FILE)
    outputs = {name: directory / name for name in record.digests}
    if any(not path.exists() or digest(path) != record.digests[name] for name, path in outputs.items()):
        return False
    record.write(directory)
    return True


def read_record(directory: Path, name: str = RECORD_FILE) -> Record:
    """The record of a complete stage. Raises UserError when there is none or it is malformed."""
    path = directory / name
    if not path.is_file():
        raise UserError(f"{directory} is not complete: it has no {name}")
    try:
        return Record.model_validate_json(path.read_text())
    except ValidationError as error:
        raise UserError(f"{path} is not a stage's record: {error.errors()[0]['msg']}") from None


def make_record(
    stage_id: str,
    outputs: list[Path],
    *,
    known: Mapping[str, str],
    seconds: float,
    device: str,
    peak_gpu_memory_mb: float,
    facts: dict[str, Any],
) -> Record:
    """The record of a stage that has just written ``outputs``; of some the digest may be ``known``."""
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    return Record(
        id=stage_id,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        peak_memory_mb=round(_peak_memory_mb(), 1),
        peak_gpu_memory_mb=round(peak_gpu_memory_mb, 1),
        device=device,
        host_platform=platform.platform(),
        versions={"robustprune": __version__, "python": platform.python_version(), **versions},
        digests={output.name: known.get(output.name) or digest(output) for output in outputs},
        facts=facts,
    )


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes on macOS, KiB on Linux
