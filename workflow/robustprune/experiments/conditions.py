"""Under which conditions a row's models are trained, where they are not those of the configuration."""

from fractions import Fraction
from typing import Any, get_args

from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.settings import Exact, Norm, Settings
from robustprune.images.settings import GENERATED_PATTERN, TrainedOn
from robustprune.networks.settings import Architecture, ArchitectureRole
from robustprune.planning.config import Config, changed, merge
from robustprune.training.settings import RecipeName

MIXED: tuple[TrainedOn, ...] = ("all", "real_and_source")
"""What is trained on in batches of real and generated images; of the rest batches have but one sort."""


class Conditions(Settings):
    """What a row changes of the configuration. Everything that is planned for it is planned under that."""

    architecture: ArchitectureRole | Architecture | None = Field(
        None, description="a network, or its part in a paper (architectures of the config); architecture where absent"
    )
    norm: Norm | None = Field(None, description="the norm of threat or other_threat; of threat where absent")
    data: TrainedOn | None = Field(
        None, description="what is trained on: all | real | synthetic | source | real_and_source; data.trained_on else"
    )
    synthetic: str | None = Field(
        None,
        pattern=f"^({GENERATED_PATTERN})$",
        description="the generated images it learns from, e.g. subset:NAME; the config's synthetic.source where absent",
    )
    drawn: Exact = Field(
        Fraction(1), gt=0, description="images drawn from the generator, in units of the config's synthetic.count"
    )
    epochs: Exact = Field(Fraction(1), gt=0, le=10, description="of a training, in units of the recipe's")
    one_pass: bool = Field(
        False, description="an epoch is one pass over what is kept (papers.md, N17), not the recipe's epoch_images"
    )

    def under(self, config: Config, *, origin: str) -> Config:
        """The configuration as these conditions change it. Raises UserError where that is not possible."""
        overrides: dict[str, Any] = {}
        if self.architecture is not None:
            roles = config.architectures.model_dump()
            overrides["architecture"] = roles.get(self.architecture, self.architecture)
        if self.norm not in (None, config.threat.norm):
            overrides |= _other_threat(self.norm, config, origin)
        if self.data not in (None, config.data.trained_on):
            overrides["data"] = {"trained_on": self.data}
        if self.synthetic not in (None, config.synthetic.source):
            overrides["synthetic"] = {"source": self.synthetic}
        if self.drawn != 1:
            overrides = merge(overrides, {"synthetic": {"count": self._count(config, origin)}})
        if recipes := self._recipes(config):
            overrides = merge(overrides, {"training": recipes})
        return changed(config, overrides, origin=origin) if overrides else config

    def _count(self, config: Config, origin: str) -> int:
        source = self.synthetic or config.synthetic.source
        if source != "generate":
            raise UserError(f"{origin}: drawn = {self.drawn} needs synthetic.source = generate, which is {source}")
        return max(1, round(config.synthetic.count * self.drawn))

    def _recipes(self, config: Config) -> dict[str, dict[str, Any]]:
        """What changes of each recipe."""
        changes: dict[str, dict[str, Any]] = {}
        unmixed = (self.data or config.data.trained_on) not in MIXED
        for name in get_args(RecipeName):
            recipe = config.training.named(name)
            if unmixed and recipe.synthetic_fraction:
                changes.setdefault(name, {})["synthetic_fraction"] = 0
            if self.one_pass and recipe.epoch_images is not None:
                changes.setdefault(name, {})["epoch_images"] = None
            if self.epochs != 1:
                changes.setdefault(name, {})["epochs"] = max(1, round(recipe.epochs * self.epochs))
        return changes


def _other_threat(norm: Norm | None, config: Config, origin: str) -> dict[str, Any]:
    other = config.other_threat
    if other is None or other.norm != norm:
        raise UserError(
            f"{origin}: norm = {norm} is not that of threat, {config.threat.norm}; say in other_threat what it is"
        )
    return {
        "threat": {"norm": other.norm, "epsilon": other.epsilon},
        "other_threat": None,
        "training": {name: {"step_size": other.step_size} for name in ("pgd_at", "trades")},
    }
