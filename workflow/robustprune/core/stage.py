"""A stage: one step of the workflow, declared by one class in one file.

A stage class says what the stage is made from (its fields; a reference to another stage is a field of type
``Annotated[StageId, Ref("pools")]``), how many of its rows several jobs can share, and how it is run. All else is
derived: what is upstream, the registry of kinds, and which definitions are part of the id.

A stage's id is ``<slug>-<10 hex>``, the hash of its settings, of the ids of the stages that it reads, and of the
``DEFINITION`` of each module that decides its numbers (see ``core.definitions``). A key named ``location`` says where
something is and not what it is, and is left out of the hash.
"""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from robustprune.core.declarations import Named
from robustprune.core.definitions import definitions_of
from robustprune.core.marks import Ref, held_by, marked, references_of
from robustprune.core.settings import Settings
from robustprune.core.work import Work

if TYPE_CHECKING:
    from robustprune.core.job import Job
    from robustprune.core.rows import RowPass
    from robustprune.planning.plan import Plan

ID_PATTERN = r"[a-z0-9]+(?:-[a-z0-9]+)*-[0-9a-f]{10}"
StageId = Annotated[str, Field(pattern=f"^{ID_PATTERN}$")]
PoolId = Annotated[StageId, Ref("pools")]
GeneratorId = Annotated[StageId, Ref("generators")]
ModelId = Annotated[StageId, Ref("models")]
EmbeddingId = Annotated[StageId, Ref("embeddings")]
ScoreId = Annotated[StageId, Ref("scores")]
ManifestId = Annotated[StageId, Ref("manifests")]
EvaluationId = Annotated[StageId, Ref("evaluations")]
LONGEST_ID = 200
ImageShape = tuple[int, int, int]  # channels, height, width


def is_stage_id(text: str) -> bool:
    """Return True if ``text`` has the form of an id, which is also that of a safe file name."""
    return len(text) <= LONGEST_ID and re.fullmatch(ID_PATTERN, text) is not None


def hash_of(settings: Mapping[str, Any], definitions: Mapping[str, int]) -> str:
    """Return the last part of an id: the first 10 hex digits of the SHA-256 of settings and definitions as sorted JSON.

    The settings are the stage's as JSON; locations in them are left out.
    """
    content = {"spec": _without_locations(settings), "definitions": definitions}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def slug_of(stage_id: str) -> str:
    """Return the words of an id, without its hash."""
    return stage_id.rsplit("-", 1)[0]


@dataclass(frozen=True)
class SharedRows:
    """Rows that a stage computes one by one, so that several jobs can share them."""

    pool: str | None = None  # the pool whose rows they are; None where there is none yet
    most: int | None = None  # the largest number of rows; None for all of the pool
    together: int | None = None  # rows that are computed at once, where that decides numbers


class Stage(Settings, ABC):
    """Base class of all stages."""

    kind: str
    sentence: ClassVar[str]  # what a stage of the kind is, for people
    resources: ClassVar[str] = ""  # key of the section ``resources``; empty for that of its kind
    uses_device: ClassVar[bool] = True  # False for classes that never compute on a GPU
    local: ClassVar[bool] = False  # True for what takes seconds and runs where Snakemake runs
    rule: ClassVar[str] = ""  # name of the kind's rule; empty for the kind in the singular
    files: ClassVar[tuple[str, ...]] = ()  # outputs, besides the record, that people may ask for

    @classmethod
    def kind_name(cls) -> str:
        """Return the kind of all stages of this class."""
        return str(cls.model_fields["kind"].default)

    @property
    @abstractmethod
    def slug(self) -> str:
        """A few words for people, which precede the hash in the id."""

    @abstractmethod
    def run(self, job: "Job") -> dict[str, Any]:
        """Do the stage in ``job.partial``, publish its outputs, and return facts for its record."""

    def row_pass(self, job: "Job") -> "RowPass":
        """Return the pass over the rows that several jobs can share, where there are any (see ``shared_rows``)."""
        raise LookupError(f"a stage of kind {self.kind} has no rows to share")

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        """(kind, id) of each stage that this one reads, each once."""
        return tuple(dict.fromkeys(references_of(self)))

    @property
    def upstream_of_pull(self) -> tuple[tuple[str, str], ...] | None:
        """(kind, id) of each stage that a job which pulls this one reads; None if the kind is not shared."""
        return None

    @property
    def definitions(self) -> dict[str, int]:
        """The version of each definition that decides this stage's numbers, by name."""
        return definitions_of(_deciding_modules(self))

    def without_locations(self) -> dict[str, Any]:
        """Return the settings as JSON, without the places of files on this machine."""
        settings: dict[str, Any] = _without_locations(self.model_dump(mode="json"))
        return settings

    @property
    def id(self) -> str:
        """``<slug>-<hash_of>``."""
        return f"{self.slug}-{hash_of(self.model_dump(mode='json'), self.definitions)}"

    @property
    def needs_device(self) -> bool:
        """True if it computes on the device that its kind asks for; else its job asks for no GPU."""
        return self.uses_device

    def works(self, plan: "Plan") -> tuple[Work, ...]:
        """Return what the stage costs, by network and arithmetic; nothing for one that only reads and writes.

        Raises UnknownSizeError where the size of a pool is not known yet.
        """
        return ()

    def bytes_left(self, plan: "Plan", parameters: Mapping[str, int]) -> int:
        """Return how many bytes the stage leaves on the disk, before compression; 0 for text, logs and pictures.

        ``parameters`` is the number of weights of each calibrated network. Raises UnknownSizeError where the size of a
        pool, of a network or of an embedding's vectors is not known yet.
        """
        return 0

    @property
    def shared_rows(self) -> SharedRows | None:
        """The rows that several jobs can share with ``row_pass``; None where the stage is one job."""
        return None


def _deciding_modules(stage: Stage) -> set[str]:
    """Return the modules that declare a stage's class, the classes of the settings it holds, and its named choices."""
    classes = {base.__module__ for held in held_by(stage) for base in type(held).__mro__ if issubclass(base, Settings)}
    return classes | {named.module(name) for named, name, _ in marked(stage, Named) if name in named}


def _without_locations(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_locations(item) for key, item in value.items() if key != "location"}
    if isinstance(value, list):
        return [_without_locations(item) for item in value]
    return value
