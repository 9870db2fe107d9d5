"""Plans figures: the studies, runs and scores that they show."""

from robustprune.core.errors import UserError
from robustprune.experiments.figures.forms import (
    AnyFigure,
    CloudsFigure,
    Courses,
    Curves,
    Distributions,
    FeatureModelFigure,
    LayoutsFigure,
    LossDistance,
    Neighbours,
    Overlaps,
    PerceptronFigure,
    PhaseMap,
    Scatter,
    Trajectories,
)
from robustprune.experiments.figures.specs import (
    CloudsFigureStage,
    CoursesStage,
    CurvesStage,
    DistributionsStage,
    FeatureModelFigureStage,
    LayoutFigureStage,
    LayoutPanel,
    LossDistanceStage,
    ManifestPair,
    NeighboursStage,
    OverlapsStage,
    PerceptronFigureStage,
    PhaseMapStage,
    PointSpec,
    ScatterStage,
    ScoreSeries,
    SeriesSpec,
    TrajectoriesStage,
    TrajectorySeries,
)
from robustprune.experiments.row import Row
from robustprune.experiments.studies.settings import InputScale, PerceptronGrid
from robustprune.experiments.studies.specs import CloudsStage, FeatureModelStage, PerceptronStage
from robustprune.experiments.tables.forms import Table
from robustprune.experiments.tables.specs import RunSpec
from robustprune.planning.claims import with_claims_on
from robustprune.planning.config import Config
from robustprune.planning.methods import Methods
from robustprune.planning.stages import Stages
from robustprune.scores.settings import UncertaintySettings
from robustprune.scores.specs import DynamicsScoreStage, ExtrapolatedScoreStage


class Figures:
    """The pictures that people ask for.

    Args:
        config: the configuration.
        stages: where stages are put.
        methods: what plans the rows of tables, so that a figure has the very runs that they have.
    """

    def __init__(self, config: Config, stages: Stages, methods: Methods) -> None:
        self.config, self.settings = config, config.perceptron
        self.stages = stages
        self.methods = methods

    def figure(self, name: str, figure: AnyFigure) -> str:
        """The stage of a figure. Raises UserError for rows that the configuration does not allow."""
        figure = with_claims_on(self.config.data.name, figure)
        match figure:
            case PerceptronFigure():
                return self._of_perceptrons(name, figure)
            case PhaseMap():
                return self._of_phases(name, figure)
            case Curves():
                return self._of_curves(name, figure)
            case Courses():
                return self._of_courses(name, figure)
            case Distributions():
                return self._of_distributions(name, figure)
            case Scatter():
                return self._of_pair(name, figure)
            case Overlaps():
                return self._of_overlaps(name, figure)
            case Neighbours():
                return self._of_neighbours(name, figure)
            case Trajectories():
                return self._of_trajectories(name, figure)
            case FeatureModelFigure():
                return self._of_features(name, figure)
            case CloudsFigure():
                return self._of_clouds(name, figure)
            case LayoutsFigure():
                return self._of_layouts(name, figure)
            case LossDistance():
                return self._of_scores(name, figure)

    def _of_perceptrons(self, name: str, figure: PerceptronFigure) -> str:
        grid, epsilon = self.settings.curves, figure.epsilon
        studies = tuple(self._study(grid, epsilon, inputs, filtered=figure.filtered) for inputs in figure.inputs)
        without: tuple[str, ...] = ()
        if figure.filtered:
            without = tuple(self._study(grid, epsilon, inputs) for inputs in figure.inputs)
        elif epsilon > 0:  # where nothing is attacked, the inputs' length changes nothing
            without = (self._study(grid, 0.0, "unit_variance"),) * len(studies)
        return self.stages.add(
            PerceptronFigureStage(name=name, title=figure.title, claim=figure.claim, studies=studies, without=without)
        )

    def _of_phases(self, name: str, figure: PhaseMap) -> str:
        settings = self.settings
        studies = tuple(self._study(settings.phases, epsilon, "unit_norm") for epsilon in settings.phase_epsilons)
        return self.stages.add(PhaseMapStage(name=name, title=figure.title, studies=studies))

    def _study(self, grid: PerceptronGrid, epsilon: float, inputs: InputScale, *, filtered: bool = False) -> str:
        settings = self.settings
        return self.stages.add(
            PerceptronStage(
                features=settings.features,
                grid=grid,
                epsilon=epsilon,
                filtered=filtered,
                inputs=inputs,
                seed=settings.seed,
            )
        )

    def _of_curves(self, name: str, figure: Curves) -> str:
        self.methods.check_measured(figure.quantities, figure.attacks)
        table = figure.table
        curves = [
            SeriesSpec(
                method=method,
                points=tuple(
                    PointSpec(place=value, runs=self._runs(row, table)) for value, row in figure.rows[method].items()
                ),
            )
            for method in figure.curves
        ]
        levels = [SeriesSpec(method=row.method, level=self._runs(row, table)) for row in figure.beside]
        return self.stages.add(
            CurvesStage(
                name=name,
                title=figure.title,
                quantities=figure.quantities,
                over=figure.over,
                axis=figure.axis,
                classes=self.config.data.classes,
                series=(*curves, *levels),
                claims=figure.claims,
            )
        )

    def _of_courses(self, name: str, figure: Courses) -> str:
        for row in figure.series:
            recipe = self.methods.under(row).config.training.named(row.recipe)
            if not recipe.validates:
                raise UserError(
                    f"{row.method}: its course is that of the validations, but training.{row.recipe} has none; set its "
                    "validation_images and validate_every above 0"
                )
        series = [SeriesSpec(method=row.method, level=self._runs(row, figure.table)) for row in figure.series]
        return self.stages.add(
            CoursesStage(
                name=name,
                title=figure.title,
                quantities=figure.quantities,
                series=tuple(series),
                claims=figure.claims,
            )
        )

    def _of_distributions(self, name: str, figure: Distributions) -> str:
        series = tuple(self._scores(row) for row in figure.series)
        return self.stages.add(
            DistributionsStage(
                name=name,
                title=figure.title,
                axis=figure.axis,
                epsilon=self.config.threat.epsilon if figure.epsilon_marked else None,
                series=series,
                same_images=len({self._pools(one) for one in series}) == 1,
                claims=figure.claims,
            )
        )

    def _of_pair(self, name: str, figure: Scatter) -> str:
        first, second = self._scores(figure.first), self._scores(figure.second)
        pools = [self._pools(one) for one in (first, second)]
        if pools[0] != pools[1]:
            raise UserError(f"{first.method!r} and {second.method!r} score other images: {pools[0]} and {pools[1]}")
        return self.stages.add(
            ScatterStage(name=name, title=figure.title, first=first, second=second, claims=figure.claims)
        )

    def _of_overlaps(self, name: str, figure: Overlaps) -> str:
        pairs = tuple(
            ManifestPair(
                method=pair.method,
                names=(pair.first.method, pair.second.method),
                first=self.methods.under(pair.first).manifest(pair.first, None),
                second=self.methods.under(pair.second).manifest(pair.second, None),
            )
            for pair in figure.pairs
        )
        return self.stages.add(OverlapsStage(name=name, title=figure.title, pairs=pairs, claims=figure.claims))

    def _of_neighbours(self, name: str, figure: Neighbours) -> str:
        series = tuple(
            ScoreSeries(method=row.method, scores=(self._extrapolated(row, figure),)) for row in figure.series
        )
        return self.stages.add(NeighboursStage(name=name, title=figure.title, series=series, claims=figure.claims))

    def _extrapolated(self, row: Row, figure: Neighbours) -> str:
        """The configured extrapolation, with the settings of the figure tried in place of the configured ones."""
        score = self.methods.under(row).scored(row)[-1]
        spec = self.stages[score]
        if not isinstance(spec, ExtrapolatedScoreStage):
            raise UserError(
                f"{row.method}: training.{row.recipe} learns from the real images alone, so there is nothing to "
                "extrapolate to; set its synthetic_fraction above 0"
            )
        if len(spec.sources) == 1:
            raise UserError(
                f"{row.method}: extrapolation.source = none, so no generated image is scored directly, and how far "
                "extrapolated scores are from the truth is not known"
            )
        tried = {"k": figure.k, "metric": figure.metric, "sources": figure.sources}
        return self.stages.add(spec.model_copy(update={"settings": spec.settings.model_copy(update=tried)}))

    def _of_trajectories(self, name: str, figure: Trajectories) -> str:
        series = tuple(self._trajectory(row) for row in figure.series)
        return self.stages.add(TrajectoriesStage(name=name, title=figure.title, series=series, claims=figure.claims))

    def _trajectory(self, row: Row) -> TrajectorySeries:
        score, *_ = self.methods.under(row).scored(row)
        spec = self.stages[score]
        assert isinstance(spec, DynamicsScoreStage)
        assert isinstance(spec.metric, UncertaintySettings)
        return TrajectorySeries(
            method=row.method,
            model=spec.models[0],
            pool=spec.pool,
            score=score,
            trajectory=spec.trajectory,
            window=spec.metric.window,
        )

    def _scores(self, row: Row) -> ScoreSeries:
        return ScoreSeries(method=row.method, scores=self.methods.under(row).scored(row))

    def _pools(self, series: ScoreSeries) -> tuple[str, ...]:
        """The pool whose images each of the scores is of."""
        return tuple(dict(reversed(self.stages[score].upstream))["pools"] for score in series.scores)

    def _runs(self, row: Row, table: Table) -> tuple[RunSpec, ...]:
        return self.methods.under(row).runs(row, table)

    def _of_features(self, name: str, figure: FeatureModelFigure) -> str:
        study = self.stages.add(FeatureModelStage(settings=self.config.feature_model))
        return self.stages.add(FeatureModelFigureStage(name=name, title=figure.title, study=study))

    def _of_clouds(self, name: str, figure: CloudsFigure) -> str:
        study = self.stages.add(CloudsStage(settings=self.config.clouds))
        return self.stages.add(
            CloudsFigureStage(name=name, title=figure.title, claim=figure.claim, panels=figure.panels, study=study)
        )

    def _of_layouts(self, name: str, figure: LayoutsFigure) -> str:
        panels = (
            LayoutPanel(method=row.method, layouts=tuple(self.methods.layout(row, seed) for seed in self.config.seeds))
            for row in figure.rows
        )
        return self.stages.add(
            LayoutFigureStage(
                name=name, title=figure.title, claim=figure.claim, rows=tuple(panels), settings=self.config.layout
            )
        )

    def _of_scores(self, name: str, figure: LossDistance) -> str:
        midway = figure.loss.mid_training
        assert midway is not None
        loss, distance = self._models(figure.loss), self._models(figure.distance)
        return self.stages.add(
            LossDistanceStage(
                name=name,
                title=figure.title,
                claim=figure.claim,
                after_epoch=midway.after_epoch,
                dropped=1 - midway.keep,
                printed=figure.printed.get(self.config.data.name),
                runs=tuple((seed, loss[seed], distance[seed]) for seed in self.config.seeds),
            )
        )

    def _models(self, row: Row) -> dict[int, str]:
        return self.methods.under(row).trained(row, None, self.config.seeds)
