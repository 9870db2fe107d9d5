"""The figures of the papers, as data."""

from functools import cached_property
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from robustprune.core.settings import Line, Settings, Weights
from robustprune.evaluation.settings import AttackNames
from robustprune.experiments.figures.settings import SOURCE_WORDS, CourseName, CurveClaim, MeasureClaim, MeasureName
from robustprune.experiments.row import Row
from robustprune.experiments.studies.settings import CloudPruning, InputScale
from robustprune.experiments.tables.forms import LayoutRow, Table, target_pattern
from robustprune.experiments.tables.settings import AccuracyName, QuantityName, refuse_unmeasured
from robustprune.images.settings import DataName
from robustprune.scores.extrapolation.neighbour_settings import Distance, Sources

OVER_RUNS: tuple[QuantityName, ...] = (
    *get_args(AccuracyName),
    *("training_seconds", "images_kept", "square_gain", "zero_gradients", "doubtful_runs", "below_chance"),
    "collapsed_runs",
)
"""The quantities of a run, or of some runs, that are numbers."""


class FigureHeading(Settings):
    """What a figure of any form has."""

    title: Line
    target: str = Field(
        pattern=target_pattern("svg"), description="file under results/ that shows it; data and caption lie beside"
    )


class PerceptronFigure(FigureHeading):
    """Errors of perceptrons over alpha, under one attack (PUMA, section 2)."""

    form: Literal["perceptron"]
    claim: Line = Field(description="what the paper says of it")
    epsilon: float = Field(ge=0, description="size of the attack in L-infinity, in units of the inputs")
    filtered: bool = Field(False, description="whether samples of a margin below epsilon are removed first")
    inputs: tuple[InputScale, ...] = Field(
        ("unit_variance", "unit_norm"), min_length=1, description="how long inputs are"
    )


class PhaseMap(FigureHeading):
    """Which strategy wins, over attack, share pruned and alpha."""

    form: Literal["phase_map"]


class FigureOfScores(FigureHeading):
    """What figures have that show scores of images, of one model each."""

    measures: ClassVar[tuple[MeasureName, ...]]
    claims: tuple[MeasureClaim, ...] = ()

    @property
    def measured(self) -> tuple[str, ...]:
        """What has measures, and so can be claimed of."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _claims_name_what_there_is(self) -> "FigureOfScores":
        if len(set(self.measured)) < len(self.measured):
            raise ValueError(f"two series have the same name: {', '.join(self.measured)}")
        for check in (check for claim in self.claims for check in claim.checks):
            for name in (check.row, *([check.other] if isinstance(check.other, str) else [])):
                if name not in self.measured:
                    raise ValueError(f"claims: there is no {name!r}; there are {', '.join(self.measured)}")
            if check.measure not in self.measures:
                raise ValueError(f"claims: {check.measure} is not measured here, but {', '.join(self.measures)}")
        return self


class Distributions(FigureOfScores):
    """How the scores of the images that methods learn from are spread, a line a method."""

    measures = ("median", "low", "tail", "censored", "distance", "rank_correlation")
    form: Literal["distributions"]
    axis: str = Field(min_length=1, description="what stands at the axis of the scores")
    epsilon_marked: bool = Field(False, description="whether threat.epsilon is marked on it")
    series: tuple[Row, ...] = Field(min_length=1, description="methods whose scores are shown")

    @property
    def measured(self) -> tuple[str, ...]:
        """The methods."""
        return tuple(row.method for row in self.series)


class Scatter(FigureOfScores):
    """Two scores of the same images; of the second it is measured how well it tells the first."""

    measures = ("correlation", "rank_correlation", "slope", "spread", "mae", "mae_ratio")
    form: Literal["scatter"]
    first: Row = Field(description="the method whose score is the truth")
    second: Row = Field(description="the method whose score is set against it")

    @property
    def measured(self) -> tuple[str, ...]:
        """The second method."""
        return (self.second.method,)


class OverlapPair(Settings):
    """Two methods that prune the same images."""

    method: Line = Field(description="the pair's name")
    first: Row
    second: Row

    @model_validator(mode="after")
    def _both_prune(self) -> "OverlapPair":
        if idle := [row.method for row in (self.first, self.second) if row.strategy == "none"]:
            raise ValueError(f"{idle[0]!r} drops no image; give it a strategy")
        return self


class Overlaps(FigureOfScores):
    """Which images two methods both drop."""

    measures = ("same_decision", "of_first", "jaccard", "of_all")
    form: Literal["overlaps"]
    pairs: tuple[OverlapPair, ...] = Field(min_length=1, description="a bar each")

    @property
    def measured(self) -> tuple[str, ...]:
        """The pairs."""
        return tuple(pair.method for pair in self.pairs)


class Neighbours(FigureOfScores):
    """How far extrapolated scores are from the truth, over the number of neighbours, by what they are taken from."""

    measures = ("mae", "mae_ratio")
    form: Literal["neighbours"]
    k: tuple[int, ...] = Field(min_length=2, description="numbers of neighbours")
    metric: tuple[Distance, ...] = Field(("cosine",), min_length=1, description="in which neighbours are near")
    sources: tuple[Sources, ...] = Field(("real", "synthetic", "all"), min_length=1, description="where they are")
    series: tuple[Row, ...] = Field(min_length=1, description="methods with extrapolated scores, a panel each")

    @property
    def measured(self) -> tuple[str, ...]:
        """A method and what its scores are taken from."""
        return tuple(f"{row.method}, {SOURCE_WORDS[source]}" for row in self.series for source in self.sources)

    @model_validator(mode="after")
    def _rows_extrapolate(self) -> "Neighbours":
        if direct := [row.method for row in self.series if not row.extrapolated]:
            raise ValueError(f"the method {direct[0]!r} lacks extrapolated: true")
        return self


class Trajectories(FigureOfScores):
    """What the uncertainty of images is made of: their predictions over the epochs, and how fast these move."""

    measures = ("correlation_low", "correlation_high", "fast_over_slow")
    form: Literal["trajectories"]
    series: tuple[Row, ...] = Field(min_length=1, description="methods that score by an uncertainty, a column each")

    @property
    def measured(self) -> tuple[str, ...]:
        """The methods."""
        return tuple(row.method for row in self.series)

    @model_validator(mode="after")
    def _scores_are_uncertainties(self) -> "Trajectories":
        for row in self.series:
            if not row.score.startswith("uncertainty") or row.extrapolated:
                raise ValueError(f"score = {row.score} of {row.method!r} should be an uncertainty, not extrapolated")
        return self


class FeatureModelFigure(FigureHeading):
    """Accuracies of the model of robust and fragile features (Kaufmann et al. v2, Appendix C)."""

    form: Literal["feature_model"]


class CloudsFigure(FigureHeading):
    """Two clouds in a plane, and the boundary between them with and without pruning."""

    form: Literal["clouds"]
    claim: Line = Field(description="what the paper says of it")
    panels: tuple[CloudPruning, ...] = Field(min_length=1, description="what is dropped, a panel each")


class LayoutsFigure(FigureHeading):
    """Images in a plane: all real ones, or those that a training keeps in its middle; a panel a row."""

    form: Literal["layouts"]
    claim: Line = Field(description="what the paper says of it")
    rows: tuple[LayoutRow, ...] = Field(min_length=1)


class LossDistance(FigureHeading):
    """Loss against 1 / distance of the images, under the network that is pruned by either in its training."""

    form: Literal["loss_distance"]
    claim: Line = Field(description="what the paper says of it")
    loss: Row
    distance: Row
    printed: dict[DataName, float] = Field({}, description="the paper's correlation, by the name of the data set")

    @model_validator(mode="after")
    def _one_training_with_two_scores(self) -> "LossDistance":
        loss, distance = self.loss.mid_training, self.distance.mid_training
        if loss is None or distance is None or (loss.score, distance.score) != ("loss", "deepfool"):
            raise ValueError("loss and distance are rows with mid_training, by score: loss and score: deepfool")
        if "random" in (loss.strategy, distance.strategy):
            raise ValueError("loss and distance are rows that prune by their scores, not at random")
        same = self.loss.recipe == self.distance.recipe and self.loss.conditions == self.distance.conditions
        if not same or (loss.after_epoch, loss.keep) != (distance.after_epoch, distance.keep):
            raise ValueError("loss and distance are one training until it prunes: they differ in score alone")
        return self


class FigureOfRuns(FigureHeading):
    """What figures have whose curves are of methods, as tables' rows are: trained once for each seed."""

    weights: Weights | None = Field(None, description="which weights of its models are evaluated")
    attacks: AttackNames | None = Field(
        None, description="what its models are measured under; evaluation.attacks where absent"
    )
    claims: tuple[CurveClaim, ...] = ()

    @property
    def curves(self) -> tuple[str, ...]:
        """The methods that have a value at each place of the axis."""
        return ()

    @property
    def levels(self) -> tuple[str, ...]:
        """The methods that have one value, whatever the place."""
        return ()

    def table_of(self, rows: tuple[Row, ...]) -> Table:
        """The rows as those of a table, as which they are planned. Raises ValueError where they do not make one."""
        target = self.target.removesuffix(".svg") + ".csv"
        return Table(title=self.title, target=target, weights=self.weights, attacks=self.attacks, rows=rows)

    @model_validator(mode="after")
    def _claims_name_what_there_is(self) -> "FigureOfRuns":
        quantities: tuple[str, ...] = getattr(self, "quantities", ())
        for check in (check for claim in self.claims for check in claim.checks):
            if check.quantity not in quantities:
                raise ValueError(f"claims: there is no panel of {check.quantity}; there are {', '.join(quantities)}")
            for method in (check.row, *([check.other] if isinstance(check.other, str) else [])):
                if method not in (*self.curves, *self.levels):
                    known = ", ".join((*self.curves, *self.levels))
                    raise ValueError(f"claims: there is no {method!r}; there are {known}")
            if check.row in self.levels:
                raise ValueError(f"claims: {check.row!r} is the same everywhere, so put it after above, below or near")
            if check.feature == "value" and check.at is None:
                raise ValueError(f"claims: of {check.row!r} it should say at which place, or at: every")
            self._check_places(check.at, check.other_at)
        return self

    def _check_places(self, *asked: float | str | None) -> None:
        """Raise ValueError for a place that is not on the axis."""


class Curves(FigureOfRuns):
    """Quantities of methods over a value that is set on each of them, such as the share dropped; a panel a quantity."""

    form: Literal["curves"]
    quantities: tuple[QuantityName, ...] = Field(min_length=1, description="a panel each")
    over: str = Field(
        pattern=r"^\w+(\.\w+)?$", description="the key of a row that takes the values: ratio | mid_training.keep | ..."
    )
    values: tuple[float, ...] = Field(min_length=2, description="what it is set to, ascending")
    axis: str = Field(min_length=1, description="what stands at the axis of these values")
    series: tuple[Row, ...] = Field(min_length=1, description="methods, a curve each")
    beside: tuple[Row, ...] = Field((), description="methods for which the key is not set, a level line each")

    @cached_property
    def rows(self) -> dict[str, dict[float, Row]]:
        """The row of each curve at each of the values. Raises ValueError where that is none."""
        return {row.method: {value: row.at(self.over, value) for value in self.values} for row in self.series}

    @cached_property
    def table(self) -> Table:
        """All rows as those of one table."""
        points = [row for points in self.rows.values() for row in points.values()]
        return self.table_of((*points, *self.beside))

    @property
    def curves(self) -> tuple[str, ...]:
        """The methods that have a value at each place of the axis."""
        return tuple(row.method for row in self.series)

    @property
    def levels(self) -> tuple[str, ...]:
        """The methods that have one value, whatever the place."""
        return tuple(row.method for row in self.beside)

    def _check_places(self, *asked: float | str | None) -> None:
        for place in asked:
            if isinstance(place, float) and place not in self.values:
                values = ", ".join(f"{value:g}" for value in self.values)
                raise ValueError(f"claims: at = {place:g} is not among the values {values}")

    @model_validator(mode="after")
    def _is_a_table(self) -> "Curves":
        if list(self.values) != sorted(set(self.values)):
            raise ValueError(f"values = {list(self.values)} should rise")
        for name in self.quantities:
            if name not in OVER_RUNS:
                raise ValueError(f"quantities: {name} is no number of a run; there are {', '.join(OVER_RUNS)}")
        if self.attacks is not None:
            refuse_unmeasured(self.quantities, self.attacks)
        if len({*self.curves, *self.levels}) < len(self.curves + self.levels):
            raise ValueError(f"two methods have the same name: {', '.join(self.curves + self.levels)}")
        assert self.table.rows
        return self


class Courses(FigureOfRuns):
    """How methods do while they are trained, on validation images, and in the end on test images."""

    form: Literal["courses"]
    quantities: tuple[CourseName, ...] = Field(("validation_clean", "validation_pgd"), min_length=1)
    attacks: AttackNames | None = Field(("cw",), description="on the last weights")
    series: tuple[Row, ...] = Field(min_length=1, description="methods, a curve each")

    @cached_property
    def table(self) -> Table:
        """The rows as those of a table."""
        return self.table_of(self.series)

    @property
    def curves(self) -> tuple[str, ...]:
        """The methods that have a value at each place of the axis."""
        return tuple(row.method for row in self.series)

    def _check_places(self, *asked: float | str | None) -> None:
        for place in asked:
            if isinstance(place, float) and not 0 < place <= 1:
                raise ValueError(f"claims: at = {place:g} should be a share of the training, above 0 and at most 1")

    @model_validator(mode="after")
    def _is_a_table(self) -> "Courses":
        assert self.table.rows
        return self


AnyOfThem = (
    PerceptronFigure
    | PhaseMap
    | Curves
    | Courses
    | Distributions
    | Scatter
    | Overlaps
    | Neighbours
    | Trajectories
    | FeatureModelFigure
    | CloudsFigure
    | LayoutsFigure
    | LossDistance
)
FIGURE_FORMS = tuple(get_args(form.model_fields["form"].annotation)[0] for form in get_args(AnyOfThem))
AnyFigure = Annotated[AnyOfThem, Field(discriminator="form")]
"""Any of the forms that figures have."""
