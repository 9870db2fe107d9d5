"""What a model is worth."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from robustprune.core.settings import ThreatModel, Weights
from robustprune.core.stage import ModelId, PoolId, SharedRows, Stage, slug_of
from robustprune.evaluation.settings import ATTACK_WORDS, AttackName, Pgd

AUTOATTACK_CHUNK = 250
"""Images that AutoAttack attacks together, whatever the machine: it draws for a whole batch."""


class EvaluationStage(Stage):
    """Which test images a model gets right, clean and under one attack. Another attack is another stage."""

    room = "evaluation.stage"
    modules = (
        "attacks.inputs",
        "evaluation.accuracy",
        "evaluation.checks",
        "evaluation.outcome",
        "evaluation.subset",
        "pools.drawing",
        "randomness",
    )
    kind: Literal["evaluations"] = "evaluations"
    attack: AttackName
    pgd: Pgd | None = Field(description="settings of an attack that is PGD")
    pool: PoolId
    images: int | None = Field(description="test images used, as many of each class as can be; null for all")
    model: ModelId
    weights: Weights = "last"
    threat: ThreatModel | None = Field(description="null, whatever is given, where nothing is attacked")
    seed: int = Field(ge=0, description="0, whatever is given, where nothing is attacked")

    @field_validator("threat")
    @classmethod
    def _of_what_is_attacked(cls, threat: ThreatModel | None, info: ValidationInfo) -> ThreatModel | None:
        return None if info.data.get("attack") == "clean" else threat

    @field_validator("seed")
    @classmethod
    def _of_the_attack(cls, seed: int, info: ValidationInfo) -> int:
        return 0 if info.data.get("attack") == "clean" else seed

    @property
    def attack_in_words(self) -> str:
        """The attack, its ball and its steps, for readers."""
        words = ATTACK_WORDS[self.attack]
        if self.threat is not None:
            words += f" in {self.threat.norm} of {self.threat.epsilon}"
        if self.pgd is not None:
            words += f", {self.pgd.steps} steps of {self.pgd.step} epsilon"
            words += f", {self.pgd.restarts} starts" if self.pgd.restarts > 1 else ""
        return words

    @property
    def slug(self) -> str:
        return f"{self.attack.replace('_', '-')}-{slug_of(self.model)}"

    @property
    def decisive_modules(self) -> tuple[str, ...]:
        if self.attack == "clean":
            return self.modules
        ours = ("evaluation.autoattack",) if self.pgd is None else ("attacks.pgd", "evaluation.pgd")
        return (*self.modules, "attacks.margin_loss", "attacks.norms", "sample_noise", *ours)

    @property
    def shared_rows(self) -> SharedRows:
        together = AUTOATTACK_CHUNK if self.attack == "autoattack" else None
        return SharedRows(pool=self.pool, most=self.images, together=together)
