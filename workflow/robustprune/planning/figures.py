"""Plans figures: the studies that they show."""

from robustprune.config import Config
from robustprune.experiments import AnyFigure, FeatureModelFigure, PerceptronFigure, PhaseMap
from robustprune.planning.stages import Stages
from robustprune.settings.perceptron import InputScale, PerceptronGrid
from robustprune.specs import FeatureModelFigureSpec, FeatureModelSpec, PerceptronFigureSpec, PerceptronSpec, PhaseMapSpec


class Figures:
    """The pictures that people ask for."""

    def __init__(self, config: Config, stages: Stages) -> None:
        self.config = config
        self.settings = config.perceptron
        self.stages = stages

    def figure(self, name: str, figure: AnyFigure) -> str:
        """The stage of a figure."""
        match figure:
            case PerceptronFigure():
                return self._of_perceptrons(name, figure)
            case PhaseMap():
                return self._of_phases(name, figure)
            case FeatureModelFigure():
                return self._of_features(name, figure)

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

    def _of_features(self, name: str, figure: FeatureModelFigure) -> str:
        study = self.stages.add(FeatureModelSpec(settings=self.config.feature_model))
        return self.stages.add(FeatureModelFigureSpec(name=name, title=figure.title, study=study))
