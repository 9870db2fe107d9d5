"""What a stage is: small, frozen, closed descriptions, and the ids made from them.

A stage's id is ``<slug>-<10 hex>``, the hash of everything that decides its numbers: its settings, the ids of the
stages it uses, and the ``DEFINITION`` of each module whose algorithm it runs. A key named ``location`` says where
something is, not what it is, and is left out of the hash.

Nothing here imports torch: planning thousands of stages takes milliseconds.
"""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter

from robustprune.settings import (
    AnyAmount,
    AnyMarginSettings,
    AnyMetric,
    AnyRecipe,
    Architecture,
    CrossEntropyAttack,
    DropAsMany,
    DynamicsScoreName,
    EvaluationSettings,
    GeneratorSettings,
    LossScoreName,
    MidTraining,
    NeighbourSettings,
    Norm,
    NormalizationSettings,
    OnlinePuma,
    Per,
    RadiusSettings,
    RecordingSettings,
    SamplerSettings,
    Settings,
    Strategy,
    ThreatModel,
    Trajectory,
    Weights,
)

ID_PATTERN = r"[a-z0-9]+(?:-[a-z0-9]+)*-[0-9a-f]{10}"
StageId = Annotated[str, Field(pattern=f"^{ID_PATTERN}$")]
DIGEST_PATTERN = "^[0-9a-f]{64}$"
ImageShape = tuple[int, int, int]  # channels, height, width


@cache
def definition(module: str) -> int:
    """The version of a module's numbers: its line ``DEFINITION = <int>``, read without importing it.

    ``module`` is relative to this package, e.g. ``margins.deepfool``.
    """
    source = Path(__file__).parent.joinpath(*module.split(".")).with_suffix(".py").read_text()
    match = re.search(r"^DEFINITION = (\d+)$", source, re.MULTILINE)
    if match is None:
        raise LookupError(f"robustprune.{module} has no line 'DEFINITION = <int>'")
    return int(match[1])


@cache
def architecture_modules(architecture: str) -> tuple[str, ...]:
    """The module of a network and those of ``models`` that it is built on, found by the text of their imports."""
    module = f"models.{architecture}"
    source = Path(__file__).parent.joinpath("models", f"{architecture}.py").read_text()
    parts = re.findall(r"^from robustprune\.models\.(\w+) import", source, re.MULTILINE)
    return tuple(dict.fromkeys((module, *(below for part in parts for below in architecture_modules(part)))))


def slug_of(stage_id: str) -> str:
    """The words of an id, without its hash."""
    return stage_id.rsplit("-", 1)[0]


class Spec(Settings, ABC):
    """A stage: what it makes, from what.

    ``room`` is the module with ``run(job, spec) -> facts`` that does it; ``modules`` names the code that decides its
    numbers. Both are relative to this package.
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

    def canonical(self) -> str:
        """The text that is hashed: sorted JSON of settings and definitions, without locations."""
        content = {"spec": _without_locations(self.model_dump(mode="json")), "definitions": self.definitions}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def id(self) -> str:
        """``<slug>-<first 10 hex digits of the SHA-256 of the canonical text>``."""
        return f"{self.slug}-{hashlib.sha256(self.canonical().encode()).hexdigest()[:10]}"

    @property
    @abstractmethod
    def upstream(self) -> tuple[tuple[str, str], ...]:
        """(kind, id) of each stage this one reads."""

    @property
    def shared_rows(self) -> str | None:
        """The pool whose rows this stage computes one by one, so that several jobs can share them; None for one job.

        The room of such a stage has ``row_pass(job, spec) -> blocks.RowPass``.
        """
        return None


def _without_locations(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_locations(item) for key, item in value.items() if key != "location"}
    if isinstance(value, list):
        return [_without_locations(item) for item in value]
    return value


class FileSource(Settings):
    """Images in files. ``digest`` is what they are, ``location`` where they lie now."""

    format: Literal["idx", "npz", "parquet"]
    digest: str = Field(pattern=DIGEST_PATTERN)
    location: tuple[str, ...]


class TorchvisionLocation(Settings):
    """Torchvision's root folder, and whether what is missing there may be downloaded."""

    folder: str
    download: bool


class TorchvisionSource(Settings):
    """A data set that torchvision knows and checks by its own MD5 sums, so its name says what it is."""

    format: Literal["torchvision"] = "torchvision"
    name: Literal["MNIST", "CIFAR10"]
    location: TorchvisionLocation


class DigitsSource(Settings):
    """scikit-learn's 1,797 digits, part of that package."""

    format: Literal["digits"] = "digits"


class IngestedPoolSpec(Spec):
    """Real or ready-made images, brought into the pool format."""

    room = "pools.stage"
    kind: Literal["pools"] = "pools"
    origin: Literal["ingested"] = "ingested"
    dataset: str
    split: Literal["train", "test", "synthetic"]
    classes: int
    image_shape: ImageShape
    source: Annotated[FileSource | TorchvisionSource | DigitsSource, Field(discriminator="format")]

    @property
    def slug(self) -> str:
        return f"{self.dataset}-{self.split}"

    @property
    def decisive_modules(self) -> tuple[str, ...]:
        return ("pools.format", f"pools.ingest.{self.source.format}")

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return ()


class GeneratorSpec(Spec):
    """An EDM trained on a real pool."""

    room = "edm.stage"
    modules = ("edm.network", "edm.preconditioning", "edm.training", "randomness")
    kind: Literal["generators"] = "generators"
    dataset: str
    pool: StageId
    classes: int
    image_shape: ImageShape
    settings: GeneratorSettings

    @property
    def slug(self) -> str:
        return f"edm-{self.dataset}"

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return (("pools", self.pool),)


class GeneratedPoolSpec(Spec):
    """Images drawn from a generator, the classes in turn."""

    room = "pools.stage"
    modules = ("edm.network", "edm.preconditioning", "edm.sampler", "pools.format", "pools.generated", "randomness")
    kind: Literal["pools"] = "pools"
    origin: Literal["generated"] = "generated"
    dataset: str
    generator: StageId
    classes: int
    image_shape: ImageShape
    count: int = Field(gt=0)
    sampler: SamplerSettings

    @property
    def slug(self) -> str:
        return f"{self.dataset}-generated"

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return (("generators", self.generator),)


RECORDING_MODULES = ("attacks.cross_entropy", "attacks.inputs", "attacks.margin_loss", "training.dynamics")
MARGIN_MODULES = (
    "attacks.margin_loss",
    "attacks.norms",
    "margins.active_set",
    "margins.bisection",
    "margins.signed",
    "margins.walk",
)
"""What runs in measuring margins whatever the method; the method's own module comes on top."""
MID_TRAINING_MODULES = (
    "attacks.cross_entropy",
    *MARGIN_MODULES,
    "margins.deepfool",
    "pruning.candidates",
    "pruning.strategies",
    "training.mid_training",
)


class ModelSpec(Spec):
    """A classifier trained on whole pools or on what a manifest keeps of them; its course is recorded where asked."""

    room = "training.stage"
    modules = (
        "attacks.inputs",
        "attacks.margin_loss",
        "attacks.norms",
        "attacks.pgd",
        "randomness",
        "training.augmentation",
        "training.averaging",
        "training.batches",
        "training.batchnorm",
        "training.clock",
        "training.fit",
        "training.losses",
        "training.optimizers",
        "training.recipes.base",
        "training.sampler",
        "training.schedules",
        "training.team",
        "training.trainset",
        "training.validation",
    )
    kind: Literal["models"] = "models"
    origin: Literal["trained"] = "trained"
    architecture: Architecture
    classes: int
    image_shape: ImageShape
    real: StageId
    synthetic: StageId | None
    manifest: StageId | None
    threat: ThreatModel
    training: AnyRecipe = Field(discriminator="recipe")
    mid_training: MidTraining | None = None
    online: OnlinePuma | None = None
    seed: int = Field(ge=0)
    recording: RecordingSettings | None = None

    @property
    def slug(self) -> str:
        pruning = () if self.manifest is None else (slug_of(self.manifest),)
        recorded = () if self.recording is None else ("recorded",)
        midway = () if self.mid_training is None else ("midway", self.mid_training.strategy)
        online = () if self.online is None else ("online",)
        words = (*pruning, *midway, *online, *recorded, self.training.recipe, self.architecture, f"seed{self.seed}")
        return "-".join(word.replace("_", "") for word in words)

    @property
    def decisive_modules(self) -> tuple[str, ...]:
        recipe = f"training.recipes.{self.training.recipe}"
        recording = () if self.recording is None else RECORDING_MODULES
        midway = () if self.mid_training is None else MID_TRAINING_MODULES
        online = () if self.online is None else ("training.online",)
        return (*self.modules, *architecture_modules(self.architecture), recipe, *recording, *midway, *online)

    @property
    def pools(self) -> tuple[str, ...]:
        """Ids of the pools it learns from, the real one first."""
        return (self.real,) if self.synthetic is None else (self.real, self.synthetic)

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        manifest = () if self.manifest is None else (("manifests", self.manifest),)
        return (*(("pools", pool) for pool in self.pools), *manifest)


class ImportedModelSpec(Spec):
    """A classifier that was trained elsewhere. ``digest`` is what its file is, ``location`` where it lies now."""

    room = "models.imported"
    modules = ("models.foreign", "models.normalization")
    kind: Literal["models"] = "models"
    origin: Literal["imported"] = "imported"
    architecture: Architecture
    classes: int
    image_shape: ImageShape
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    entry: str | None
    normalization: NormalizationSettings | None
    location: str

    @property
    def slug(self) -> str:
        return f"imported-{self.architecture.replace('_', '')}"

    @property
    def decisive_modules(self) -> tuple[str, ...]:
        return (*self.modules, *architecture_modules(self.architecture))

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return ()


class MarginSpec(Spec):
    """Signed margins of every image of a pool under a model."""

    room = "margins.stage"
    modules = ("attacks.inputs", *MARGIN_MODULES)
    kind: Literal["scores"] = "scores"
    score: Literal["margin"] = "margin"
    pool: StageId
    model: StageId
    weights: Weights = "last"
    norm: Norm
    settings: AnyMarginSettings

    @property
    def slug(self) -> str:
        return f"margin-{self.norm.lower()}-{slug_of(self.pool)}"

    @property
    def decisive_modules(self) -> tuple[str, ...]:
        return (*self.modules, f"margins.{self.settings.method}")

    @property
    def shared_rows(self) -> str:
        return self.pool

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return (("pools", self.pool), ("models", self.model))


class DynamicsScoreSpec(Spec):
    """What the recorded course of one or more trainings says of each image of a pool that they learnt from."""

    room = "scores.dynamics"
    modules = ("scores.dynamics", "scores.metrics")
    kind: Literal["scores"] = "scores"
    score: DynamicsScoreName
    pool: StageId
    models: tuple[StageId, ...] = Field(min_length=1)
    trajectory: Trajectory
    metric: AnyMetric

    @property
    def slug(self) -> str:
        return f"{self.score.replace('_', '-')}-{slug_of(self.pool)}"

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return (("pools", self.pool), *(("models", model) for model in self.models))


class LossScoreSpec(Spec):
    """The cross-entropy of a trained model at every image of a pool, as it is or attacked."""

    room = "scores.loss"
    modules = (
        "attacks.cross_entropy",
        "attacks.inputs",
        "attacks.margin_loss",
        "attacks.norms",
        "attacks.pgd",
        "randomness",
        "scores.loss",
    )
    kind: Literal["scores"] = "scores"
    score: LossScoreName
    pool: StageId
    model: StageId
    weights: Weights = "last"
    threat: ThreatModel
    attack: CrossEntropyAttack | None
    seed: int = Field(ge=0)

    @property
    def slug(self) -> str:
        return f"{self.score.replace('_', '-')}-{slug_of(self.pool)}"

    @property
    def shared_rows(self) -> str:
        return self.pool

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return (("pools", self.pool), ("models", self.model))


class ModelEncoder(Settings):
    """One of our models; what goes into its last linear layer."""

    form: Literal["model"] = "model"
    model: StageId

    def describe(self) -> str:
        """For people."""
        return f"last features of {self.model}"


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


class EmbeddingSpec(Spec):
    """A vector for each image of a pool, un-augmented."""

    room = "embeddings.stage"
    modules = ("attacks.inputs", "embeddings.encoders")
    kind: Literal["embeddings"] = "embeddings"
    pool: StageId
    encoder: Annotated[ModelEncoder | TorchvisionEncoder | FileEncoder, Field(discriminator="form")]
    dtype: Literal["float32", "float16"]

    @property
    def slug(self) -> str:
        return f"embedding-{slug_of(self.pool)}"

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        model = (("models", self.encoder.model),) if isinstance(self.encoder, ModelEncoder) else ()
        return (("pools", self.pool), *model)


class ScoredPool(Settings):
    """A pool that is scored directly, and its embedding."""

    pool: StageId
    score: StageId
    embedding: StageId


class ExtrapolatedScoreSpec(Spec):
    """The score of every image of a pool, from those of its nearest neighbours in pools that are scored directly.

    ``sources`` are the real pool and, where there is one, a synthetic pool; images of the last are held out to choose
    among the settings.
    """

    room = "extrapolation.stage"
    modules = (
        "extrapolation.choice",
        "extrapolation.neighbours",
        "extrapolation.overlap",
        "extrapolation.regression",
        "extrapolation.sources",
        "randomness",
    )
    kind: Literal["scores"] = "scores"
    score: Literal["extrapolated"] = "extrapolated"
    pool: StageId
    embedding: StageId
    sources: tuple[ScoredPool, ...] = Field(min_length=1, max_length=2)
    settings: NeighbourSettings

    @property
    def slug(self) -> str:
        return f"extrapolated-{slug_of(self.pool)}"

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        sources = [
            pair
            for source in self.sources
            for pair in (("pools", source.pool), ("scores", source.score), ("embeddings", source.embedding))
        ]
        return tuple(dict.fromkeys([("pools", self.pool), ("embeddings", self.embedding), *sources]))


class ManifestSpec(Spec):
    """Which rows of which pools are kept, and with what radius each is attacked.

    ``scores`` (what the strategy goes by), ``margins`` and ``difficulties`` (what the radius follows) have an id for
    each of the pools, or none where they are not needed.
    """

    room = "pruning.stage"
    modules = ("pruning.candidates", "pruning.manifest", "pruning.radii", "pruning.strategies", "randomness")
    kind: Literal["manifests"] = "manifests"
    pools: tuple[StageId, ...]
    scores: tuple[StageId, ...]
    margins: tuple[StageId, ...]
    difficulties: tuple[StageId, ...]
    strategy: Strategy
    drop: AnyAmount
    per: Per
    radius: RadiusSettings
    validation_images: int = Field(ge=0)
    seed: int = Field(ge=0)

    @property
    def slug(self) -> str:
        return self.strategy.replace("_", "-")

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        scores = dict.fromkeys((*self.scores, *self.margins, *self.difficulties))
        followed = (("manifests", self.drop.manifest),) if isinstance(self.drop, DropAsMany) else ()
        return (
            *(("pools", pool) for pool in self.pools),
            *(("scores", score) for score in scores),
            *followed,
        )


class EvaluationSpec(Spec):
    """Which test images a model gets right, clean and under each attack."""

    room = "evaluation.stage"
    modules = (
        "attacks.inputs",
        "attacks.margin_loss",
        "attacks.norms",
        "attacks.pgd",
        "evaluation.attacks",
        "evaluation.outcome",
        "randomness",
    )
    kind: Literal["evaluations"] = "evaluations"
    pool: StageId
    model: StageId
    weights: Weights = "last"
    threat: ThreatModel
    settings: EvaluationSettings

    @property
    def slug(self) -> str:
        return slug_of(self.model)

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return (("pools", self.pool), ("models", self.model))


class RowSpec(Settings):
    """One line of a table: a method, and its runs, one a seed."""

    method: str
    models: tuple[StageId, ...]
    evaluations: tuple[StageId, ...]
    printed: str | None = Field(description="the method's name in the file of printed numbers")


class TableSpec(Spec):
    """A table of a paper: our rows beside the printed ones."""

    room = "tables.stage"
    modules = ("tables.rows",)
    kind: Literal["tables"] = "tables"
    name: str
    title: str
    printed_file: str | None
    printed_digest: str | None = Field(description="SHA-256 of that file, so that a corrected number makes a new table")
    printed_setting: str
    rows: tuple[RowSpec, ...]

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").replace(".", "-")

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        stages = [("models", model) for row in self.rows for model in row.models]
        stages += [("evaluations", evaluation) for row in self.rows for evaluation in row.evaluations]
        return tuple(dict.fromkeys(stages))


AnyPoolSpec = Annotated[IngestedPoolSpec | GeneratedPoolSpec, Field(discriminator="origin")]
AnyModelSpec = Annotated[ModelSpec | ImportedModelSpec, Field(discriminator="origin")]
AnyScoreSpec = Annotated[
    MarginSpec | DynamicsScoreSpec | LossScoreSpec | ExtrapolatedScoreSpec, Field(discriminator="score")
]
AnySpec = Annotated[
    AnyPoolSpec
    | GeneratorSpec
    | AnyModelSpec
    | EmbeddingSpec
    | AnyScoreSpec
    | ManifestSpec
    | EvaluationSpec
    | TableSpec,
    Field(discriminator="kind"),
]
KINDS = ("pools", "generators", "models", "embeddings", "scores", "manifests", "evaluations", "tables")
SPEC_ADAPTER: TypeAdapter[Spec] = TypeAdapter(AnySpec)
