"""What is measured of every image of a pool."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from robustprune.attacks.settings import AnyMarginSettings
from robustprune.core.settings import DIGEST_PATTERN, Norm, Settings, ThreatModel, Weights
from robustprune.core.stage import EmbeddingId, ModelId, PoolId, ScoreId, SharedRows, Stage, slug_of
from robustprune.scores.settings import (
    AnyMetric,
    CrossEntropyAttack,
    DynamicsScoreName,
    LossScoreName,
    NeighbourSettings,
    ScoreFormat,
    Trajectory,
)
from robustprune.training.specs import MARGIN_MODULES

RECORDED_TOGETHER = 2**16  # images scored at once from their trajectories: a chunk of the store
EXTRAPOLATED_TOGETHER = 2**13  # images whose neighbours are looked for at once: 268 MB of inner products


class ScoreStage(Stage):
    """Something measured of every image of ``pool``: the kind of stage that teams share."""

    pool: PoolId

    @property
    def upstream_of_pull(self) -> tuple[tuple[str, str], ...]:
        """(kind, id) of each stage that is read when the score is pulled in place of being made."""
        return (("pools", self.pool),)


class MarginStage(ScoreStage):
    """Signed margins of every image of a pool under a model."""

    room = "scores.margin"
    modules = ("attacks.inputs", *MARGIN_MODULES)
    kind: Literal["scores"] = "scores"
    score: Literal["margin"] = "margin"
    model: ModelId
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
    def shared_rows(self) -> SharedRows:
        return SharedRows(pool=self.pool)


class DynamicsScoreStage(ScoreStage):
    """What the recorded course of one or more trainings says of each image of a pool that they learnt from."""

    room = "scores.dynamics"
    modules = ("scores.dynamics", "scores.metrics")
    kind: Literal["scores"] = "scores"
    score: DynamicsScoreName
    models: tuple[ModelId, ...] = Field(min_length=1)
    trajectory: Trajectory
    metric: AnyMetric

    @property
    def slug(self) -> str:
        return f"{self.score.replace('_', '-')}-{slug_of(self.pool)}"

    @property
    def needs_device(self) -> bool:
        return False

    @property
    def shared_rows(self) -> SharedRows:
        return SharedRows(pool=self.pool, together=RECORDED_TOGETHER)


class LossScoreStage(ScoreStage):
    """The cross-entropy of a trained model at every image of a pool, as it is or attacked."""

    room = "scores.loss"
    modules = (
        "attacks.cross_entropy",
        "attacks.inputs",
        "attacks.margin_loss",
        "attacks.norms",
        "attacks.pgd",
        "sample_noise",
        "scores.loss",
    )
    kind: Literal["scores"] = "scores"
    score: LossScoreName
    model: ModelId
    weights: Weights = "last"
    attack: CrossEntropyAttack | None
    clip_start: bool = Field(True, description="of the attack; true, whatever is given, where nothing is attacked")
    threat: ThreatModel | None = Field(description="null, whatever is given, where nothing is attacked")
    seed: int = Field(ge=0, description="0, whatever is given, where nothing is attacked")

    @field_validator("clip_start")
    @classmethod
    def _of_a_start(cls, clip_start: bool, info: ValidationInfo) -> bool:
        return info.data.get("attack") is None or clip_start

    @field_validator("threat")
    @classmethod
    def _of_what_is_attacked(cls, threat: ThreatModel | None, info: ValidationInfo) -> ThreatModel | None:
        return None if info.data.get("attack") is None else threat

    @field_validator("seed")
    @classmethod
    def _of_the_attack(cls, seed: int, info: ValidationInfo) -> int:
        return 0 if info.data.get("attack") is None else seed

    @property
    def slug(self) -> str:
        return f"{self.score.replace('_', '-')}-{slug_of(self.pool)}"

    @property
    def shared_rows(self) -> SharedRows:
        return SharedRows(pool=self.pool)


class ImportedScoreStage(ScoreStage):
    """A score that was measured elsewhere. ``digest`` is what its file is, ``location`` where it lies now."""

    room = "scores.imported"
    modules = ("scores.imported",)
    resources = "ingest"
    uses_device = False
    kind: Literal["scores"] = "scores"
    score: Literal["imported"] = "imported"
    format: ScoreFormat
    digest: str = Field(pattern=DIGEST_PATTERN)
    column: str
    unit: str
    easy: Literal["high", "low"]
    location: str = Field("", description="none in a shared store, which does not tell where the file lay")

    @property
    def slug(self) -> str:
        return f"imported-{self.column.replace('_', '')}-{slug_of(self.pool)}"


class ScoredPool(Settings):
    """A pool that is scored directly, and its embedding.

    Its first ``validation_images`` were held out from the trainings whose course is the score, so nothing is
    extrapolated from them.
    """

    pool: PoolId
    score: ScoreId
    embedding: EmbeddingId
    validation_images: int = Field(0, ge=0, exclude_if=lambda images: images == 0)  # so that older ids stay


class ExtrapolatedScoreStage(ScoreStage):
    """The score of every image of a pool, from those of its nearest neighbours in pools that are scored directly.

    ``sources`` are the real pool and, where there is one, a synthetic pool; images of the last are held out to choose
    among the settings.
    """

    room = "scores.extrapolation.stage"
    modules = (
        "extrapolation.choice",
        "extrapolation.neighbours",
        "extrapolation.overlap",
        "extrapolation.regression",
        "extrapolation.sources",
        "extrapolation.stage",
        "randomness",
    )
    kind: Literal["scores"] = "scores"
    score: Literal["extrapolated"] = "extrapolated"
    embedding: EmbeddingId
    sources: tuple[ScoredPool, ...] = Field(min_length=1, max_length=2)
    settings: NeighbourSettings

    @property
    def slug(self) -> str:
        return f"extrapolated-{slug_of(self.pool)}"

    @property
    def shared_rows(self) -> SharedRows:
        return SharedRows(pool=self.pool, together=EXTRAPOLATED_TOGETHER)
