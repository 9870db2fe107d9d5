"""Pictures, each with its data and a caption."""

from typing import Literal

from pydantic import Field

from robustprune.settings import LayoutSettings, Settings
from robustprune.settings.clouds import CloudPruning
from robustprune.specs.base import Spec, StageId


class PerceptronFigureSpec(Spec):
    """Errors of students over alpha: PUMA's figures 1 to 4.

    ``studies`` differ in how long the inputs are; ``clean`` is the study of the same points without an attack.
    """

    room = "figures.perceptron"
    modules = ("figures.perceptron", "figures.style", "perceptron.claims", "tables.statistics")
    kind: Literal["figures"] = "figures"
    form: Literal["perceptron"] = "perceptron"
    name: str
    title: str
    studies: tuple[StageId, ...] = Field(min_length=1)
    clean: StageId

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").replace(".", "-")

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return tuple(("studies", study) for study in dict.fromkeys((*self.studies, self.clean)))


class PhaseMapSpec(Spec):
    """Which strategy wins, over the attack and the ratio, for some alpha: a study for each attack."""

    room = "figures.phase_map"
    modules = ("figures.phase_map", "figures.style", "perceptron.claims", "perceptron.teacher")
    kind: Literal["figures"] = "figures"
    form: Literal["phase_map"] = "phase_map"
    name: str
    title: str
    studies: tuple[StageId, ...] = Field(min_length=2)

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").replace(".", "-")

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return tuple(("studies", study) for study in self.studies)


class FeatureModelFigureSpec(Spec):
    """The feature model's formulas and what was simulated (Kaufmann et al. v2, Appendix C)."""

    room = "figures.feature_model"
    modules = (
        "feature_model.formulas",
        "figures.feature_model",
        "figures.style",
        "tables.statistics",
    )
    kind: Literal["figures"] = "figures"
    form: Literal["feature_model"] = "feature_model"
    name: str
    title: str
    study: StageId

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").replace(".", "-")

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return (("studies", self.study),)


class CloudsFigureSpec(Spec):
    """Two clouds in a plane, and what pruning drops of them."""

    room = "figures.clouds"
    modules = ("figures.clouds", "figures.style", "tables.statistics")
    kind: Literal["figures"] = "figures"
    form: Literal["clouds"] = "clouds"
    name: str
    title: str
    claim: str
    panels: tuple[CloudPruning, ...] = Field(min_length=1)
    study: StageId

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").replace(".", "-")

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return (("studies", self.study),)


class LayoutPanel(Settings):
    """A panel of images in a plane: their layout for each seed."""

    method: str
    layouts: tuple[StageId, ...] = Field(min_length=1)


class LayoutFigureSpec(Spec):
    """Images in a plane, a panel each for what is left of them."""

    room = "figures.layouts"
    modules = ("figures.layouts", "figures.style", "layouts.measures", "tables.statistics")
    kind: Literal["figures"] = "figures"
    form: Literal["layouts"] = "layouts"
    name: str
    title: str
    claim: str
    rows: tuple[LayoutPanel, ...] = Field(min_length=1)
    settings: LayoutSettings

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").replace(".", "-")

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return tuple(dict.fromkeys(("layouts", layout) for row in self.rows for layout in row.layouts))


class LossDistanceSpec(Spec):
    """Two scores of the same images under one half-trained network: loss and distance to the boundary.

    Each run is a seed and two models that are the same until they prune, one by loss, one by distance.
    """

    room = "figures.loss_distance"
    modules = ("figures.loss_distance", "figures.style", "randomness", "tables.statistics")
    kind: Literal["figures"] = "figures"
    form: Literal["loss_distance"] = "loss_distance"
    name: str
    title: str
    after_epoch: int
    dropped: float = Field(description="share of the images that both would drop")
    printed: float | None = Field(description="the paper's r on this data set")
    runs: tuple[tuple[int, StageId, StageId], ...] = Field(min_length=1)

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-").replace(".", "-")

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return tuple(("models", model) for _, loss, distance in self.runs for model in (loss, distance))
