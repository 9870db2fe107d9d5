"""Plans figures: the studies, runs and scores that they show."""

from robustprune.config import Config
from robustprune.errors import UserError
from robustprune.experiments import (
    AnyFigure,
    CloudsFigure,
    Courses,
    Curves,
    FeatureModelFigure,
    LayoutsFigure,
    LossDistance,
    PerceptronFigure,
    PhaseMap,
    Row,
    Table,
)
from robustprune.planning.methods import Methods
from robustprune.planning.stages import Stages
from robustprune.settings.perceptron import InputScale, PerceptronGrid
from robustprune.specs import (
    CloudsFigureSpec,
    CloudsSpec,
    CoursesSpec,
    CurvesSpec,
    FeatureModelFigureSpec,
    FeatureModelSpec,
    LayoutFigureSpec,
    LayoutPanel,
    LossDistanceSpec,
    PerceptronFigureSpec,
    PerceptronSpec,
    PhaseMapSpec,
    PointSpec,
    RunSpec,
    SeriesSpec,
)


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
        match figure:
            case PerceptronFigure():
                return self._of_perceptrons(name, figure)
            case PhaseMap():
                return self._of_phases(name, figure)
            case Curves():
                return self._of_curves(name, figure)
            case Courses():
                return self._of_courses(name, figure)
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
        clean = self._study(grid, 0.0, "unit_variance")
        return self.stages.add(PerceptronFigureSpec(name=name, title=figure.title, studies=studies, clean=clean))

    def _of_phases(self, name: str, figure: PhaseMap) -> str:
        settings = self.settings
        studies = tuple(self._study(settings.phases, epsilon, "unit_norm") for epsilon in settings.phase_epsilons)
        return self.stages.add(PhaseMapSpec(name=name, title=figure.title, studies=studies))

    def _study(self, grid: PerceptronGrid, epsilon: float, inputs: InputScale, *, filtered: bool = False) -> str:
        settings = self.settings
        return self.stages.add(
            PerceptronSpec(
                features=settings.features,
                grid=grid,
                epsilon=epsilon,
                filtered=filtered,
                inputs=inputs,
                seed=settings.seed,
            )
        )

    def _of_curves(self, name: str, figure: Curves) -> str:
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
            CurvesSpec(
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
            CoursesSpec(
                name=name,
                title=figure.title,
                quantities=figure.quantities,
                series=tuple(series),
                claims=figure.claims,
            )
        )

    def _runs(self, row: Row, table: Table) -> tuple[RunSpec, ...]:
        return self.methods.under(row).runs(row, table)

    def _of_features(self, name: str, figure: FeatureModelFigure) -> str:
        study = self.stages.add(FeatureModelSpec(settings=self.config.feature_model))
        return self.stages.add(FeatureModelFigureSpec(name=name, title=figure.title, study=study))

    def _of_clouds(self, name: str, figure: CloudsFigure) -> str:
        study = self.stages.add(CloudsSpec(settings=self.config.clouds))
        return self.stages.add(
            CloudsFigureSpec(name=name, title=figure.title, claim=figure.claim, panels=figure.panels, study=study)
        )

    def _of_layouts(self, name: str, figure: LayoutsFigure) -> str:
        panels = (
            LayoutPanel(method=row.method, layouts=tuple(self.methods.layout(row, seed) for seed in self.config.seeds))
            for row in figure.rows
        )
        return self.stages.add(
            LayoutFigureSpec(
                name=name, title=figure.title, claim=figure.claim, rows=tuple(panels), settings=self.config.layout
            )
        )

    def _of_scores(self, name: str, figure: LossDistance) -> str:
        midway = figure.loss.mid_training
        assert midway is not None
        loss, distance = self._models(figure.loss), self._models(figure.distance)
        return self.stages.add(
            LossDistanceSpec(
                name=name,
                title=figure.title,
                after_epoch=midway.after_epoch,
                dropped=1 - midway.keep,
                printed=figure.printed.get(self.config.data.name),
                runs=tuple((seed, loss[seed], distance[seed]) for seed in self.config.seeds),
            )
        )

    def _models(self, row: Row) -> dict[int, str]:
        return self.methods.under(row).trained(row, None, self.config.seeds)
