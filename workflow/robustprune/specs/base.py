"""What every stage has: a small, frozen, closed description, and the id made from it.

A stage's id is ``<slug>-<10 hex>``, the hash of everything that decides its numbers: its settings, the ids of the
stages it uses, and the ``DEFINITION`` of each module whose algorithm it runs. A key named ``location`` says where
something is, not what it is, and is left out of the hash.
"""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from robustprune.settings import Settings

PACKAGE = Path(__file__).resolve().parents[1]
ID_PATTERN = r"[a-z0-9]+(?:-[a-z0-9]+)*-[0-9a-f]{10}"
StageId = Annotated[str, Field(pattern=f"^{ID_PATTERN}$")]
LONGEST_ID = 200
ImageShape = tuple[int, int, int]  # channels, height, width


@cache
def definition(module: str) -> int:
    """The version of a module's numbers: its line ``DEFINITION = <int>``, read without importing it.

    ``module`` is relative to the package, e.g. ``margins.deepfool``.
    """
    source = PACKAGE.joinpath(*module.split(".")).with_suffix(".py").read_text()
    match = re.search(r"^DEFINITION = (\d+)$", source, re.MULTILINE)
    if match is None:
        raise LookupError(f"robustprune.{module} has no line 'DEFINITION = <int>'")
    return int(match[1])


@cache
def architecture_modules(architecture: str) -> tuple[str, ...]:
    """The module of a network and those of ``models`` that it is built on, found by the text of their imports."""
    module = f"models.{architecture}"
    source = PACKAGE.joinpath("models", f"{architecture}.py").read_text()
    parts = re.findall(r"^from robustprune\.models\.(\w+) import", source, re.MULTILINE)
    return tuple(dict.fromkeys((module, *(below for part in parts for below in architecture_modules(part)))))


def is_stage_id(text: str) -> bool:
    """Whether this has the form of an id, which is also that of a safe file name."""
    return len(text) <= LONGEST_ID and re.fullmatch(ID_PATTERN, text) is not None


def hash_of(settings: Mapping[str, Any], definitions: Mapping[str, int]) -> str:
    """The last part of an id: the first 10 hex digits of the SHA-256 of settings and definitions as sorted JSON.

    Args:
        settings: of the stage, as JSON has them; locations in them are left out.
        definitions: the version of each module that decides its numbers.
    """
    content = {"spec": _without_locations(settings), "definitions": definitions}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def slug_of(stage_id: str) -> str:
    """The words of an id, without its hash."""
    return stage_id.rsplit("-", 1)[0]


@dataclass(frozen=True)
class SharedRows:
    """Rows that a stage computes one by one, so that several jobs can share them.

    Attributes:
        pool: the pool whose rows they are; None where there is none yet.
        most: how many they are at most; None for all of the pool.
        together: rows that are computed at once, where that decides numbers; None where it does not.
    """

    pool: str | None = None
    most: int | None = None
    together: int | None = None


class Spec(Settings, ABC):
    """A stage: what it makes, from what.

    ``room`` is the module with ``run(job, spec) -> facts`` that does it; ``modules`` names the code that decides its
    numbers. Both are relative to the package.
    """

    room: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]
    kind: str

    @property
    @abstractmethod
    def slug(self) -> str:
        """A few words for people; the hash behind it is what tells stages apart."""

    @property
    def decisive_modules(self) -> tuple[str, ...]:
        """The modules whose DEFINITION is part of this stage's id."""
        return self.modules

    @property
    def definitions(self) -> dict[str, int]:
        """The version of each decisive module."""
        return {module: definition(module) for module in sorted(self.decisive_modules)}

    def without_locations(self) -> dict[str, Any]:
        """The settings as JSON, without where things lie on this machine."""
        settings: dict[str, Any] = _without_locations(self.model_dump(mode="json"))
        return settings

    @property
    def id(self) -> str:
        """``<slug>-<hash_of>``."""
        return f"{self.slug}-{hash_of(self.model_dump(mode='json'), self.definitions)}"

    @property
    @abstractmethod
    def upstream(self) -> tuple[tuple[str, str], ...]:
        """(kind, id) of each stage this one reads."""

    @property
    def needs_device(self) -> bool:
        """Whether it computes on the device that its kind asks for; else its job asks for no GPU."""
        return True

    @property
    def shared_rows(self) -> SharedRows | None:
        """What several jobs can share of this stage; None where it is one job.

        The room of such a stage has ``row_pass(job, spec) -> blocks.RowPass``.
        """
        return None


def _without_locations(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_locations(item) for key, item in value.items() if key != "location"}
    if isinstance(value, list):
        return [_without_locations(item) for item in value]
    return value
