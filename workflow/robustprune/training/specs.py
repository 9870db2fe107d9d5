"""Classifiers: trained here, or brought in."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from robustprune.core.settings import DIGEST_PATTERN, ThreatModel
from robustprune.core.stage import ImageShape, ManifestId, PoolId, Stage, architecture_modules, slug_of
from robustprune.networks.settings import Architecture, NormalizationSettings
from robustprune.pruning.settings import MidTraining, OnlinePuma
from robustprune.scores.settings import RecordingSettings
from robustprune.training.settings import AdversarialRecipe, AnyRecipe

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


class ModelStage(Stage):
    """A classifier trained on whole pools or on what a manifest keeps of them; its course is recorded where asked."""

    room = "training.stage"
    modules = (
        "attacks.inputs",
        "attacks.margin_loss",
        "attacks.norms",
        "attacks.pgd",
        "precision",
        "randomness",
        "sample_noise",
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
    real: PoolId
    synthetic: PoolId | None
    manifest: ManifestId | None
    training: AnyRecipe = Field(discriminator="recipe")
    mid_training: MidTraining | None = None
    online: OnlinePuma | None = None
    seed: int = Field(ge=0)
    recording: RecordingSettings | None = None
    threat: ThreatModel | None = Field(description="null, whatever is given, where nothing is attacked")

    @field_validator("threat")
    @classmethod
    def _of_what_is_attacked(cls, threat: ThreatModel | None, info: ValidationInfo) -> ThreatModel | None:
        recipe, midway, recording = (info.data.get(name) for name in ("training", "mid_training", "recording"))
        scored = midway is not None and midway.strategy != "random" and midway.at == "adversarial"
        recorded = recording is not None and recording.attacks
        return threat if isinstance(recipe, AdversarialRecipe) or scored or recorded else None

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
