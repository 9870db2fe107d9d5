"""Every setting that decides a number: its type, bounds, unit and meaning.

The classes here are the sections of ``config.yaml`` (see ``config``) and, unchanged, parts of the stage specs (see
``specs``), so that a setting is described once and hashed as it was written.
"""

from robustprune.settings.base import Exact, Norm, Radius, Settings, ThreatModel, Weights
from robustprune.settings.evaluation import AttackName, EvaluationSettings, Pgd
from robustprune.settings.extrapolation import EmbeddingSettings, Metric, NeighbourSettings, Sources, Weighting
from robustprune.settings.generation import GeneratorSettings, SamplerSettings
from robustprune.settings.margins import (
    AnyMarginSettings,
    BoundarySearchSettings,
    DeepFoolSettings,
    MarginMethod,
    MarginSettings,
)
from robustprune.settings.models import NORMALIZING, Architecture, CheckpointSettings, NormalizationSettings
from robustprune.settings.pools import GENERATED_PATTERN, HierarchySettings, SubsetSettings, UnionSettings
from robustprune.settings.pruning import (
    ENDS,
    AnyAmount,
    DropAsMany,
    DropBeyond,
    DropShare,
    End,
    MidTraining,
    OnlinePuma,
    Per,
    PruningSettings,
    RadiusRule,
    RadiusSettings,
    Strategy,
)
from robustprune.settings.scores import (
    AnyMetric,
    CrossEntropyAttack,
    DynamicsScoreName,
    DynamicsSettings,
    LossScoreName,
    RecordingSettings,
    ScoreName,
    Trajectory,
)
from robustprune.settings.training import (
    AdversarialRecipe,
    AnyRecipe,
    MultiStepRecipe,
    PgdAtRecipe,
    Recipe,
    RecipeName,
    Recipes,
    RsFgsmRecipe,
    StandardRecipe,
    TradesRecipe,
)

__all__ = [
    "ENDS",
    "GENERATED_PATTERN",
    "NORMALIZING",
    "AdversarialRecipe",
    "AnyAmount",
    "AnyMarginSettings",
    "AnyMetric",
    "AnyRecipe",
    "Architecture",
    "AttackName",
    "BoundarySearchSettings",
    "CheckpointSettings",
    "CrossEntropyAttack",
    "DeepFoolSettings",
    "DropAsMany",
    "DropBeyond",
    "DropShare",
    "DynamicsScoreName",
    "DynamicsSettings",
    "EmbeddingSettings",
    "End",
    "EvaluationSettings",
    "Exact",
    "GeneratorSettings",
    "HierarchySettings",
    "LossScoreName",
    "MarginMethod",
    "MarginSettings",
    "Metric",
    "MidTraining",
    "MultiStepRecipe",
    "NeighbourSettings",
    "Norm",
    "NormalizationSettings",
    "OnlinePuma",
    "Per",
    "Pgd",
    "PgdAtRecipe",
    "PruningSettings",
    "Radius",
    "RadiusRule",
    "RadiusSettings",
    "Recipe",
    "RecipeName",
    "Recipes",
    "RecordingSettings",
    "RsFgsmRecipe",
    "SamplerSettings",
    "ScoreName",
    "Settings",
    "Sources",
    "StandardRecipe",
    "Strategy",
    "SubsetSettings",
    "ThreatModel",
    "TradesRecipe",
    "Trajectory",
    "UnionSettings",
    "Weighting",
    "Weights",
]
