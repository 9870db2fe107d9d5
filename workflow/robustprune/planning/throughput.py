"""The table of measured rates, ``results/.throughput.json``: by device and by network, as ``core.work`` names it."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from robustprune.core.errors import UserError
from robustprune.core.files import write_text
from robustprune.core.work import Work

THROUGHPUT_FILE = ".throughput.json"
HOUR = 3600


class Rates(BaseModel):
    """Speed of a device with a network, each way at the batch size at which it was fastest."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    forwards: float = Field(gt=0, description="images a second through the network")
    gradients: float | None = Field(gt=0, description="images a second, back to the pixels; None for a generator")
    updates: float = Field(gt=0, description="images a second, back to the weights")
    parameters: int = Field(gt=0, description="weights of the network")
    torch: str = Field(description="version of torch")
    measured: str = Field(description="when, ISO 8601, UTC")

    def hours(self, work: Work) -> float:
        """Return how long one device takes."""
        seconds = work.forwards / self.forwards + work.updates / self.updates
        if work.gradients and self.gradients is not None:
            seconds += work.gradients / self.gradients
        return seconds / HOUR


Table = dict[str, dict[str, Rates]]
_ADAPTER: TypeAdapter[Table] = TypeAdapter(Table)


def read_throughput(results: Path) -> Table:
    """The rates of each network on each device; empty where nothing was calibrated. Raises UserError when damaged."""
    path = results / THROUGHPUT_FILE
    if not path.is_file():
        return {}
    try:
        return _ADAPTER.validate_json(path.read_text())
    except ValidationError as error:
        raise UserError(
            f"{path} is not a table of rates ({error.errors()[0]['msg']}); delete it and calibrate anew"
        ) from None


def add_rates(results: Path, device: str, rates: dict[str, Rates]) -> Path:
    """Put a device's rates into the table, over older ones of the same networks; returns the file."""
    table = read_throughput(results)
    table[device] = {**table.get(device, {}), **rates}
    path = results / THROUGHPUT_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(_ADAPTER.dump_python(table, mode="json"), indent=2) + "\n")
    return path
