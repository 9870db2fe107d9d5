"""Plans figures: the studies, runs and scores that they show."""

from typing import TYPE_CHECKING

from robustprune.core.errors import UserError
from robustprune.experiments.figures.clouds import CloudsFigureStage
from robustprune.experiments.figures.courses import CoursesStage
from robustprune.experiments.figures.curves import CurvesStage
from robustprune.experiments.figures.distributions import DistributionsStage
from robustprune.experiments.figures.feature_model import FeatureModelFigureStage
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
from robustprune.experiments.figures.layouts import LayoutFigureStage, LayoutPanel
from robustprune.experiments.figures.loss_distance import LossDistanceStage
from robustprune.experiments.figures.neighbours import NeighboursStage
from robustprune.experiments.figures.overlaps import ManifestPair, OverlapsStage
from robustprune.experiments.figures.perceptron import PerceptronFigureStage
from robustprune.experiments.figures.phase_map import PhaseMapStage
from robustprune.experiments.figures.scatter import ScatterStage
from robustprune.experiments.figures.specs import PointSpec, ScoreSeries, SeriesSpec
from robustprune.experiments.figures.trajectories import TrajectoriesStage, TrajectorySeries
from robustprune.experiments.row import Row
from robustprune.experiments.studies.clouds import CloudsStage
from robustprune.experiments.studies.feature_model import FeatureModelStage
from robustprune.experiments.studies.perceptron import PerceptronStage
from robustprune.experiments.studies.settings import InputScale, PerceptronGrid
from robustprune.experiments.tables.forms import Table
from robustprune.experiments.tables.specs import RunSpec
from robustprune.planning.claims import with_claims_on
from robustprune.scores.dynamics import DynamicsScoreStage
from robustprune.scores.extrapolated import ExtrapolatedScoreStage
from robustprune.scores.metrics.uncertainty import UncertaintySettings

if TYPE_CHECKING:
    from robustprune.planning.context import Context


def plan_figure(context: "Context", name: str, figure: AnyFigure) -> str:
    """The stage of a figure. Raises UserError for rows that the configuration does not allow."""
    figure = with_claims_on(context.config.data.name, figure)
    match figure:
        case PerceptronFigure():
            return _of_perceptrons(context, name, figure)
        case PhaseMap():
            return _of_phases(context, name, figure)
        case Curves():
            return _of_curves(context, name, figure)
        case Courses():
            return _of_courses(context, name, figure)
        case Distributions():
            return _of_distributions(context, name, figure)
        case Scatter():
            return _of_pair(context, name, figure)
        case Overlaps():
            return _of_overlaps(context, name, figure)
        case Neighbours():
            return _of_neighbours(context, name, figure)
        case Trajectories():
            return _of_trajectories(context, name, figure)
        case FeatureModelFigure():
            return _of_features(context, name, figure)
        case CloudsFigure():
            return _of_clouds(context, name, figure)
        case LayoutsFigure():
            return _of_layouts(context, name, figure)
        case LossDistance():
            return _of_scores(context, name, figure)


def _of_perceptrons(context: "Context", name: str, figure: PerceptronFigure) -> str:
    grid, epsilon = context.config.perceptron.curves, figure.epsilon
    studies = tuple(_study(context, grid, epsilon, inputs, filtered=figure.filtered) for inputs in figure.inputs)
    without: tuple[str, ...] = ()
    if figure.filtered:
        without = tuple(_study(context, grid, epsilon, inputs) for inputs in figure.inputs)
    elif epsilon > 0:  # where nothing is attacked, the inputs' length changes nothing
        without = (_study(context, grid, 0.0, "unit_variance"),) * len(studies)
    return context.add(
        PerceptronFigureStage(name=name, title=figure.title, claim=figure.claim, studies=studies, without=without)
    )


def _of_phases(context: "Context", name: str, figure: PhaseMap) -> str:
    settings = context.config.perceptron
    studies = tuple(_study(context, settings.phases, epsilon, "unit_norm") for epsilon in settings.phase_epsilons)
    return context.add(PhaseMapStage(name=name, title=figure.title, studies=studies))


def _study(
    context: "Context", grid: PerceptronGrid, epsilon: float, inputs: InputScale, *, filtered: bool = False
) -> str:
    settings = context.config.perceptron
    return context.add(
        PerceptronStage(
            features=settings.features,
            grid=grid,
            epsilon=epsilon,
            filtered=filtered,
            inputs=inputs,
            seed=settings.seed,
        )
    )


def _of_curves(context: "Context", name: str, figure: Curves) -> str:
    context.check_measured(figure.quantities, figure.attacks)
    table = figure.table
    curves = [
        SeriesSpec(
            method=method,
            points=tuple(
                PointSpec(place=value, runs=_runs(context, row, table)) for value, row in figure.rows[method].items()
            ),
        )
        for method in figure.curves
    ]
    levels = [SeriesSpec(method=row.method, level=_runs(context, row, table)) for row in figure.beside]
    return context.add(
        CurvesStage(
            name=name,
            title=figure.title,
            quantities=figure.quantities,
            over=figure.over,
            axis=figure.axis,
            classes=context.config.data.classes,
            series=(*curves, *levels),
            claims=figure.claims,
        )
    )


def _of_courses(context: "Context", name: str, figure: Courses) -> str:
    for row in figure.series:
        recipe = context.under(row).config.training.named(row.recipe)
        if not recipe.validates:
            raise UserError(
                f"{row.method}: its course is that of the validations, but training.{row.recipe} has none; set its "
                "validation_images and validate_every above 0"
            )
    series = [SeriesSpec(method=row.method, level=_runs(context, row, figure.table)) for row in figure.series]
    return context.add(
        CoursesStage(
            name=name,
            title=figure.title,
            quantities=figure.quantities,
            series=tuple(series),
            claims=figure.claims,
        )
    )


def _of_distributions(context: "Context", name: str, figure: Distributions) -> str:
    series = tuple(_scores(context, row) for row in figure.series)
    return context.add(
        DistributionsStage(
            name=name,
            title=figure.title,
            axis=figure.axis,
            epsilon=context.config.threat.epsilon if figure.epsilon_marked else None,
            series=series,
            same_images=len({_pools(context, one) for one in series}) == 1,
            claims=figure.claims,
        )
    )


def _of_pair(context: "Context", name: str, figure: Scatter) -> str:
    first, second = _scores(context, figure.first), _scores(context, figure.second)
    pools = [_pools(context, one) for one in (first, second)]
    if pools[0] != pools[1]:
        raise UserError(f"{first.method!r} and {second.method!r} score other images: {pools[0]} and {pools[1]}")
    return context.add(ScatterStage(name=name, title=figure.title, first=first, second=second, claims=figure.claims))


def _of_overlaps(context: "Context", name: str, figure: Overlaps) -> str:
    pairs = tuple(
        ManifestPair(
            method=pair.method,
            names=(pair.first.method, pair.second.method),
            first=context.manifest(pair.first, None),
            second=context.manifest(pair.second, None),
        )
        for pair in figure.pairs
    )
    return context.add(OverlapsStage(name=name, title=figure.title, pairs=pairs, claims=figure.claims))


def _of_neighbours(context: "Context", name: str, figure: Neighbours) -> str:
    series = tuple(
        ScoreSeries(method=row.method, scores=(_extrapolated(context, row, figure),)) for row in figure.series
    )
    return context.add(NeighboursStage(name=name, title=figure.title, series=series, claims=figure.claims))


def _extrapolated(context: "Context", row: Row, figure: Neighbours) -> str:
    """The configured extrapolation, with the settings of the figure tried in place of the configured ones."""
    score = context.scored(row)[-1]
    spec = context.stages[score]
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
    return context.add(spec.model_copy(update={"settings": spec.settings.model_copy(update=tried)}))


def _of_trajectories(context: "Context", name: str, figure: Trajectories) -> str:
    series = tuple(_trajectory(context, row) for row in figure.series)
    return context.add(TrajectoriesStage(name=name, title=figure.title, series=series, claims=figure.claims))


def _trajectory(context: "Context", row: Row) -> TrajectorySeries:
    score, *_ = context.scored(row)
    spec = context.stages[score]
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


def _scores(context: "Context", row: Row) -> ScoreSeries:
    return ScoreSeries(method=row.method, scores=context.scored(row))


def _pools(context: "Context", series: ScoreSeries) -> tuple[str, ...]:
    """The pool whose images each of the scores is of."""
    return tuple(dict(reversed(context.stages[score].upstream))["pools"] for score in series.scores)


def _runs(context: "Context", row: Row, table: Table) -> tuple[RunSpec, ...]:
    return context.runs(row, table)


def _of_features(context: "Context", name: str, figure: FeatureModelFigure) -> str:
    study = context.add(FeatureModelStage(settings=context.config.feature_model))
    return context.add(FeatureModelFigureStage(name=name, title=figure.title, study=study))


def _of_clouds(context: "Context", name: str, figure: CloudsFigure) -> str:
    study = context.add(CloudsStage(settings=context.config.clouds))
    return context.add(
        CloudsFigureStage(name=name, title=figure.title, claim=figure.claim, panels=figure.panels, study=study)
    )


def _of_layouts(context: "Context", name: str, figure: LayoutsFigure) -> str:
    panels = (
        LayoutPanel(method=row.method, layouts=tuple(context.layout(row, seed) for seed in context.config.seeds))
        for row in figure.rows
    )
    return context.add(
        LayoutFigureStage(
            name=name, title=figure.title, claim=figure.claim, rows=tuple(panels), settings=context.config.layout
        )
    )


def _of_scores(context: "Context", name: str, figure: LossDistance) -> str:
    midway = figure.loss.mid_training
    assert midway is not None
    loss, distance = _models(context, figure.loss), _models(context, figure.distance)
    return context.add(
        LossDistanceStage(
            name=name,
            title=figure.title,
            claim=figure.claim,
            after_epoch=midway.after_epoch,
            dropped=1 - midway.keep,
            printed=figure.printed.get(context.config.data.name),
            runs=tuple((seed, loss[seed], distance[seed]) for seed in context.config.seeds),
        )
    )


def _models(context: "Context", row: Row) -> dict[int, str]:
    return context.trained(row, None, context.config.seeds)
