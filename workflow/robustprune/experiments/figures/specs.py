"""Pictures, each with its data and a caption."""

from typing import Annotated, Literal

from pydantic import Field

from robustprune.core.marks import Ref
from robustprune.core.settings import Radius, Settings
from robustprune.core.stage import ManifestId, ModelId, ScoreId, Stage, StageId
from robustprune.experiments.figures.settings import CourseName, CurveClaim, MeasureClaim
from robustprune.experiments.studies.settings import CloudPruning, LayoutSettings
from robustprune.experiments.tables.settings import QuantityName
from robustprune.experiments.tables.specs import RunSpec
from robustprune.scores.settings import Trajectory


class FigureStage(Stage):
    """What every figure has."""

    local = True
    files = ("figure.svg", "figure.csv", "caption.md")
    kind: Literal["figures"] = "figures"
    name: str
    title: str

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").replace(".", "-")


class PerceptronFigureStage(FigureStage):
    """Errors of students over alpha: PUMA's figures 1 to 4.

    ``studies`` differ in how long the inputs are. ``without`` has for each of them the one that it is compared with: of
    the same points, without an attack, or with the samples that a filter removes; none where there is neither.
    """

    room = "experiments.figures.perceptron"
    modules = ("figures.perceptron", "figures.style", "perceptron.claims", "tables.statistics")
    form: Literal["perceptron"] = "perceptron"
    claim: str
    studies: tuple[Annotated[StageId, Ref("studies")], ...] = Field(min_length=1)
    without: tuple[Annotated[StageId, Ref("studies")], ...] = ()


class PhaseMapStage(FigureStage):
    """Which strategy wins, over the attack and the ratio, for some alpha: a study for each attack."""

    room = "experiments.figures.phase_map"
    modules = ("figures.phase_map", "figures.style", "perceptron.claims", "perceptron.teacher", "tables.statistics")
    form: Literal["phase_map"] = "phase_map"
    studies: tuple[Annotated[StageId, Ref("studies")], ...] = Field(min_length=2)


OF_CURVES = (
    "figures.claims",
    "figures.curves",
    "figures.lines",
    "figures.style",
    "tables.cells",
    "tables.claims",
    "tables.quantities",
    "tables.statistics",
)


class PointSpec(Settings):
    """A method with its key set to a value: its runs, one a seed."""

    place: float
    runs: tuple[RunSpec, ...]


class SeriesSpec(Settings):
    """A method: a point for each value of the key, or one set of runs for them all."""

    method: str
    points: tuple[PointSpec, ...] = ()
    level: tuple[RunSpec, ...] = ()

    @property
    def runs(self) -> tuple[RunSpec, ...]:
        """All of them."""
        return (*(run for point in self.points for run in point.runs), *self.level)


class CurvesStage(FigureStage):
    """Quantities of methods over a value that is set on each of them."""

    room = "experiments.figures.curves"
    modules = OF_CURVES
    form: Literal["curves"] = "curves"
    quantities: tuple[QuantityName, ...]
    over: str
    axis: str
    classes: int = Field(description="of the data, for the accuracy of guessing")
    series: tuple[SeriesSpec, ...]
    claims: tuple[CurveClaim, ...]


class CoursesStage(FigureStage):
    """How methods do while they are trained. ``level`` of a series is its runs."""

    room = "experiments.figures.courses"
    modules = (*OF_CURVES, "figures.courses")
    form: Literal["courses"] = "courses"
    quantities: tuple[CourseName, ...]
    series: tuple[SeriesSpec, ...]
    claims: tuple[CurveClaim, ...]


OF_SCORES = ("figures.claims", "figures.measures", "figures.style", "tables.claims")


class ScoreSeries(Settings):
    """A method, and its scores of each pool that it learns from."""

    method: str
    scores: tuple[ScoreId, ...] = Field(min_length=1)


class DistributionsStage(FigureStage):
    """How scores are spread."""

    room = "experiments.figures.distributions"
    modules = (*OF_SCORES, "figures.distributions", "scores.distribution")
    form: Literal["distributions"] = "distributions"
    axis: str
    epsilon: Radius | None
    series: tuple[ScoreSeries, ...] = Field(min_length=1)
    same_images: bool = Field(description="whether all series are of the same images")
    claims: tuple[MeasureClaim, ...]


class ScatterStage(FigureStage):
    """Two scores of the same images."""

    room = "experiments.figures.scatter"
    modules = (*OF_SCORES, "figures.scatter")
    form: Literal["scatter"] = "scatter"
    first: ScoreSeries
    second: ScoreSeries
    claims: tuple[MeasureClaim, ...]


class NeighboursStage(FigureStage):
    """Errors of extrapolated scores over the number of neighbours. Each series has one score, the extrapolated one."""

    room = "experiments.figures.neighbours"
    modules = (*OF_SCORES, "figures.neighbours")
    form: Literal["neighbours"] = "neighbours"
    series: tuple[ScoreSeries, ...] = Field(min_length=1)
    claims: tuple[MeasureClaim, ...]


class ManifestPair(Settings):
    """Two manifests that choose from the same images, and what the methods behind them are called."""

    method: str
    names: tuple[str, str]
    first: ManifestId
    second: ManifestId


class OverlapsStage(FigureStage):
    """Which images two ways to prune both drop."""

    room = "experiments.figures.overlaps"
    modules = (*OF_SCORES, "figures.overlaps", "pruning.overlap")
    form: Literal["overlaps"] = "overlaps"
    pairs: tuple[ManifestPair, ...] = Field(min_length=1)
    claims: tuple[MeasureClaim, ...]


class TrajectorySeries(Settings):
    """A recorded training, and the uncertainty that was made of it, of the images of one pool."""

    method: str
    model: ModelId
    pool: StageId
    score: ScoreId
    trajectory: Trajectory
    window: int


class TrajectoriesStage(FigureStage):
    """Predictions over the epochs, and the uncertainty against how fast they move."""

    room = "experiments.figures.trajectories"
    modules = (*OF_SCORES, "figures.trajectories")
    form: Literal["trajectories"] = "trajectories"
    series: tuple[TrajectorySeries, ...] = Field(min_length=1)
    claims: tuple[MeasureClaim, ...]


class FeatureModelFigureStage(FigureStage):
    """The feature model's formulas and what was simulated (Kaufmann et al. v2, Appendix C)."""

    room = "experiments.figures.feature_model"
    modules = (
        "feature_model.formulas",
        "figures.feature_model",
        "figures.style",
        "tables.statistics",
    )
    form: Literal["feature_model"] = "feature_model"
    study: Annotated[StageId, Ref("studies")]


class CloudsFigureStage(FigureStage):
    """Two clouds in a plane, and what pruning drops of them."""

    room = "experiments.figures.clouds"
    modules = ("figures.clouds", "figures.style", "tables.statistics")
    form: Literal["clouds"] = "clouds"
    claim: str
    panels: tuple[CloudPruning, ...] = Field(min_length=1)
    study: Annotated[StageId, Ref("studies")]


class LayoutPanel(Settings):
    """A panel of images in a plane: their layout for each seed."""

    method: str
    layouts: tuple[Annotated[StageId, Ref("layouts")], ...] = Field(min_length=1)


class LayoutFigureStage(FigureStage):
    """Images in a plane, a panel each for what is left of them."""

    room = "experiments.figures.layouts"
    modules = ("figures.layouts", "figures.style", "layouts.measures", "tables.statistics")
    form: Literal["layouts"] = "layouts"
    claim: str
    rows: tuple[LayoutPanel, ...] = Field(min_length=1)
    settings: LayoutSettings


class LossDistanceStage(FigureStage):
    """Two scores of the same images under one half-trained network: loss and distance to the boundary.

    Each run is a seed and two models that are the same until they prune, one by loss, one by distance.
    """

    room = "experiments.figures.loss_distance"
    modules = ("figures.loss_distance", "figures.style", "randomness", "tables.statistics")
    form: Literal["loss_distance"] = "loss_distance"
    claim: str
    after_epoch: int
    dropped: float = Field(description="share of the images that both would drop")
    printed: float | None = Field(description="the paper's r on this data set")
    runs: tuple[tuple[int, ModelId, ModelId], ...] = Field(min_length=1)
