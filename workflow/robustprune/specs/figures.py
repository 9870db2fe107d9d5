"""Pictures, each with its data and a caption."""

from typing import Literal

from pydantic import Field

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
