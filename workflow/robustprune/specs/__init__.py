"""What a stage is: one module a kind of stage, each with the specs of that kind.

Nothing here imports torch: planning thousands of stages takes milliseconds.
"""

from typing import Annotated

from pydantic import Field, TypeAdapter

from robustprune.specs.base import ID_PATTERN, SharedRows, Spec, StageId, definition, is_stage_id, slug_of
from robustprune.specs.classes import ClassListSpec, HierarchyFile, SynsetFolder
from robustprune.specs.embeddings import EmbeddingSpec, FileEncoder, ModelEncoder, TorchvisionEncoder
from robustprune.specs.evaluations import EvaluationSpec
from robustprune.specs.figures import (
    CloudsFigureSpec,
    CoursesSpec,
    CurvesSpec,
    DistributionsSpec,
    FeatureModelFigureSpec,
    LayoutFigureSpec,
    LayoutPanel,
    LossDistanceSpec,
    ManifestPair,
    NeighboursSpec,
    OverlapsSpec,
    PerceptronFigureSpec,
    PhaseMapSpec,
    PointSpec,
    ScatterSpec,
    ScoreSeries,
    SeriesSpec,
    TrajectoriesSpec,
    TrajectorySeries,
)
from robustprune.specs.galleries import GallerySpec
from robustprune.specs.layouts import LayoutSpec
from robustprune.specs.manifests import ManifestSpec
from robustprune.specs.models import ImportedModelSpec, ModelSpec
from robustprune.specs.pools import (
    DigitsSource,
    FileSource,
    GeneratedPoolSpec,
    GeneratorSpec,
    IngestedPoolSpec,
    SelectedPoolSpec,
    SubsetPoolSpec,
    SynsetPoolSpec,
    TorchvisionLocation,
    TorchvisionSource,
    UnionPart,
    UnionPoolSpec,
)
from robustprune.specs.quality import QualitySpec
from robustprune.specs.reports import ReportSpec
from robustprune.specs.scores import (
    DynamicsScoreSpec,
    ExtrapolatedScoreSpec,
    ImportedScoreSpec,
    LossScoreSpec,
    MarginSpec,
    ScoredPool,
    ScoreSpec,
)
from robustprune.specs.studies import CloudsSpec, FeatureModelSpec, PerceptronSpec
from robustprune.specs.tables import RowSpec, RunSpec, TableSpec

AnyPoolSpec = Annotated[
    IngestedPoolSpec | SynsetPoolSpec | GeneratedPoolSpec | SelectedPoolSpec | SubsetPoolSpec | UnionPoolSpec,
    Field(discriminator="origin"),
]
AnyModelSpec = Annotated[ModelSpec | ImportedModelSpec, Field(discriminator="origin")]
AnyScoreSpec = Annotated[
    MarginSpec | DynamicsScoreSpec | LossScoreSpec | ExtrapolatedScoreSpec | ImportedScoreSpec,
    Field(discriminator="score"),
]
AnyStudySpec = Annotated[PerceptronSpec | FeatureModelSpec | CloudsSpec, Field(discriminator="study")]
AnyFigureSpec = Annotated[
    PerceptronFigureSpec
    | PhaseMapSpec
    | CurvesSpec
    | CoursesSpec
    | DistributionsSpec
    | ScatterSpec
    | NeighboursSpec
    | OverlapsSpec
    | TrajectoriesSpec
    | FeatureModelFigureSpec
    | CloudsFigureSpec
    | LayoutFigureSpec
    | LossDistanceSpec,
    Field(discriminator="form"),
]
AnySpec = Annotated[
    ClassListSpec
    | AnyPoolSpec
    | GeneratorSpec
    | AnyModelSpec
    | EmbeddingSpec
    | AnyScoreSpec
    | ManifestSpec
    | EvaluationSpec
    | QualitySpec
    | AnyStudySpec
    | LayoutSpec
    | TableSpec
    | AnyFigureSpec
    | GallerySpec
    | ReportSpec,
    Field(discriminator="kind"),
]
KINDS = (
    "classes",
    "pools",
    "generators",
    "models",
    "embeddings",
    "scores",
    "manifests",
    "evaluations",
    "qualities",
    "layouts",
    "studies",
    "tables",
    "figures",
    "galleries",
    "reports",
)
SPEC_ADAPTER: TypeAdapter[Spec] = TypeAdapter(AnySpec)

__all__ = [
    "ID_PATTERN",
    "KINDS",
    "SPEC_ADAPTER",
    "AnyFigureSpec",
    "AnyModelSpec",
    "AnyPoolSpec",
    "AnyScoreSpec",
    "AnySpec",
    "AnyStudySpec",
    "ClassListSpec",
    "CloudsFigureSpec",
    "CloudsSpec",
    "CoursesSpec",
    "CurvesSpec",
    "DigitsSource",
    "DistributionsSpec",
    "DynamicsScoreSpec",
    "EmbeddingSpec",
    "EvaluationSpec",
    "ExtrapolatedScoreSpec",
    "FeatureModelFigureSpec",
    "FeatureModelSpec",
    "FileEncoder",
    "FileSource",
    "GallerySpec",
    "GeneratedPoolSpec",
    "GeneratorSpec",
    "HierarchyFile",
    "ImportedModelSpec",
    "ImportedScoreSpec",
    "IngestedPoolSpec",
    "LayoutFigureSpec",
    "LayoutPanel",
    "LayoutSpec",
    "LossDistanceSpec",
    "LossScoreSpec",
    "ManifestPair",
    "ManifestSpec",
    "MarginSpec",
    "ModelEncoder",
    "ModelSpec",
    "NeighboursSpec",
    "OverlapsSpec",
    "PerceptronFigureSpec",
    "PerceptronSpec",
    "PhaseMapSpec",
    "PointSpec",
    "QualitySpec",
    "ReportSpec",
    "RowSpec",
    "RunSpec",
    "ScatterSpec",
    "ScoreSeries",
    "ScoreSpec",
    "ScoredPool",
    "SelectedPoolSpec",
    "SeriesSpec",
    "SharedRows",
    "Spec",
    "StageId",
    "SubsetPoolSpec",
    "SynsetFolder",
    "SynsetPoolSpec",
    "TableSpec",
    "TorchvisionEncoder",
    "TorchvisionLocation",
    "TorchvisionSource",
    "TrajectoriesSpec",
    "TrajectorySeries",
    "UnionPart",
    "UnionPoolSpec",
    "definition",
    "is_stage_id",
    "slug_of",
]
