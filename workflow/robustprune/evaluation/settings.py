"""Settings of evaluating a trained model."""

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from robustprune.core.settings import Exact, Settings
from robustprune.evaluation.attack import AttackName


class QualitySettings(Settings):
    """Settings of the quality of generated images, ``results/quality.csv``."""

    images: int | None = Field(50_000, ge=2, description="drawn at random from each pool; null for all")
    classifier: str | None = Field(
        None,
        description="a checkpoint of the config that judges; null: one trained on the real images alone by "
        "training.standard, with another seed than one that selects",
    )


def _each_once(attacks: tuple[AttackName, ...]) -> tuple[AttackName, ...]:
    if len(set(attacks)) < len(attacks):
        raise ValueError("should name each attack once")
    return attacks


AttackNames = Annotated[tuple[AttackName, ...], Field(min_length=1), AfterValidator(_each_once)]


class PgdSettings(Settings):
    """PGD from random starts of each image's own, each of which it has to withstand."""

    steps: int = Field(20, ge=1, description="gradient steps from a start")
    step: Exact = Field(Fraction(1, 4), gt=0, description="length of a step, in units of epsilon")
    restarts: int = Field(1, ge=1, description="starts")


class CwSettings(PgdSettings):
    """As Wang et al. (2023) measure CW robustness."""

    steps: int = Field(40, ge=1, description="gradient steps from a start")


class Pgd50From10Settings(PgdSettings):
    """As Wong et al. (2020) measure robustness."""

    steps: int = Field(50, ge=1, description="gradient steps from a start")
    restarts: int = Field(10, ge=1, description="starts")


class Pgd(PgdSettings):
    """The same with what it makes large, as an evaluation is told."""

    objective: Literal["margin", "cross_entropy"] = Field(description="the margin is that of Carlini & Wagner")

    @property
    def passes(self) -> tuple[int, int]:
        """Forward passes and gradients of an image that withstands it, the clean one and the first check among them."""
        return 1 + self.restarts, 1 + self.restarts * self.steps


class EvaluationSettings(Settings):
    """The attacks on a trained model, and on how many test images."""

    attacks: AttackNames = Field(
        ("cw", "autoattack"),
        description="what models are measured under; each also tells the clean accuracy, clean tells nothing else",
    )
    images: int | None = Field(
        None,
        gt=0,
        description="test images used, the same for every model, as many of each class as can be; null for all",
    )
    autoattack_images: int | None = Field(None, gt=0, description="of these, images attacked by AutoAttack; null: all")
    cw: CwSettings = CwSettings()
    pgd: PgdSettings = PgdSettings()
    pgd_50_10: Pgd50From10Settings = Pgd50From10Settings()
    seed: int = Field(0, ge=0, description="seed of the attacks")

    @model_validator(mode="after")
    def _attacks_reach_epsilon(self) -> "EvaluationSettings":
        for name, attack in (("cw", self.cw), ("pgd", self.pgd), ("pgd_50_10", self.pgd_50_10)):
            if (reach := attack.steps * attack.step) < 1:
                raise ValueError(
                    f"{name}.steps * {name}.step = {reach} should be at least 1, in units of epsilon, or robustness is "
                    "overstated"
                )
        return self

    def pgd_named(self, attack: AttackName) -> Pgd | None:
        """The settings of an attack that is PGD; None for the others."""
        settings = getattr(self, attack, None)
        if settings is None:
            return None
        return Pgd(**dict(settings), objective="margin" if attack == "cw" else "cross_entropy")

    def images_under(self, attack: AttackName, there: int | None) -> int | None:
        """Return how many test images are measured under an attack; None for all.

        Args:
            attack: the attack.
            there: how many there are, where that is known.
        """
        limits = (self.images, self.autoattack_images if attack == "autoattack" else None)
        asked = min((limit for limit in limits if limit is not None), default=None)
        return None if asked is not None and there is not None and asked >= there else asked
