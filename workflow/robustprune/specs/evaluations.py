"""What a model is worth."""

from typing import Literal

from robustprune.settings import EvaluationSettings, ThreatModel, Weights
from robustprune.specs.base import Spec, StageId, slug_of


class EvaluationSpec(Spec):
    """Which test images a model gets right, clean and under each attack."""

    room = "evaluation.stage"
    modules = (
        "attacks.inputs",
        "attacks.margin_loss",
        "attacks.norms",
        "attacks.pgd",
        "evaluation.attacks",
        "evaluation.outcome",
        "randomness",
    )
    kind: Literal["evaluations"] = "evaluations"
    pool: StageId
    model: StageId
    weights: Weights = "last"
    threat: ThreatModel
    settings: EvaluationSettings

    @property
    def slug(self) -> str:
        return slug_of(self.model)

    @property
    def upstream(self) -> tuple[tuple[str, str], ...]:
        return (("pools", self.pool), ("models", self.model))
