"""Reads the tables of each paper."""

from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from robustprune.config import EXPERIMENTS, read_yaml
from robustprune.errors import UserError
from robustprune.experiments.tables import AnyTable
from robustprune.settings import Settings
from robustprune.settings.tables import Form


class Experiments(Settings):
    """The tables of one paper."""

    paper: str
    tables: dict[str, AnyTable]


def load_experiments(folder: Path = EXPERIMENTS) -> dict[str, AnyTable]:
    """Every table of every paper, by ``<paper>.<table>``. Raises UserError naming the file and key."""
    tables: dict[str, AnyTable] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            experiments = Experiments.model_validate(read_yaml(path))
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join(str(part) for part in problem["loc"] if part not in get_args(Form))
            value = "" if isinstance(problem["input"], dict) else f" = {problem['input']!r}"
            raise UserError(f"{path.name}: {key}{value}: {problem['msg'].removeprefix('Value error, ')}") from None
        tables |= {f"{experiments.paper}.{name}": table for name, table in experiments.tables.items()}
    return tables
