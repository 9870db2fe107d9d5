"""Settings of pruning: which images are dropped, and with what radius the rest is attacked."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from robustprune.attacks.settings import DeepFoolTarget
from robustprune.core.settings import Exact, Radius, Settings
from robustprune.core.stage import ManifestId

Strategy = Literal[
    "none",
    "random",
    "random_with_replacement",
    "prune_easy",
    "prune_difficult",
    "prune_easy_and_difficult",
    "puma",
    "low_distance",
    "high_distance",
    "low_high_distance",
    "low_loss",
    "high_loss",
    "low_high_loss_literal",
    "keep_highest",
]
"""Which images are dropped, by the papers' names; docs/pruning.md has them in a table."""

End = Literal["easy", "difficult", "high", "low", "middle", "chance"]
"""Where images are dropped from: an end of the score's range, its mean, or anywhere."""

ENDS: dict[Strategy, tuple[End, ...]] = {
    "none": (),
    "random": ("chance",),
    "random_with_replacement": ("chance",),  # as the published code of Nieth et al. draws (papers.md, N4)
    "prune_easy": ("easy",),
    "prune_difficult": ("difficult",),
    "prune_easy_and_difficult": ("easy", "difficult"),
    "puma": ("high",),
    "low_distance": ("difficult",),  # Kaufmann et al., second version: distance = 1 / loss, or DeepFool's
    "high_distance": ("easy",),
    "low_high_distance": ("difficult", "easy"),
    "low_loss": ("easy",),  # the names of their first version
    "high_loss": ("difficult",),
    "low_high_loss_literal": ("middle",),  # its pseudocode, which drops what its text keeps (papers.md, K5)
    "keep_highest": ("low",),  # Nieth et al., uncertainty and frequency
}
"""Where each strategy drops images from; what is left after the first end is dropped from the second."""

Per = Literal["all", "class", "source"]
"""Among which images a share is taken: all, those of a class, or those of a pool."""

Among = Literal["all", "real", "synthetic"]
"""Which images may be dropped at all; the others are kept."""

RadiusRule = Literal["constant", "margin", "weak_if_difficult", "margin_if_difficult"]
"""With what radius each image is attacked; the functions are in ``pruning.radii``."""


class DropShare(Settings):
    """A share of the images, for each of the strategy's ends."""

    by: Literal["share"] = "share"
    shares: tuple[float, ...]


class DropBeyond(Settings):
    """The images whose score is beyond a value, for each of the strategy's ends."""

    by: Literal["threshold"] = "threshold"
    thresholds: tuple[Exact, ...]


class DropAsMany(Settings):
    """As many as another manifest drops: of all, or of each class or source."""

    by: Literal["manifest"] = "manifest"
    manifest: ManifestId


AnyAmount = Annotated[DropShare | DropBeyond | DropAsMany, Field(discriminator="by")]
"""How many images are dropped."""


class RadiusSettings(Settings):
    """The rule of the radii and its constants, in units of the pixel range."""

    rule: RadiusRule
    epsilon: Radius = Field(description="largest radius")
    gap: Radius = Field(description="taken off each margin (PUMA, Eq. 3)")


class MidTraining(Settings):
    """Pruning in the middle of a training (Kaufmann et al.)."""

    after_epoch: int = Field(1, ge=1, description="epochs trained on everything before")
    keep: float = Field(gt=0, le=1, description="share of each pool's images that is kept")
    strategy: Literal[
        "random", "low_distance", "high_distance", "low_high_distance", "low_loss", "high_loss", "low_high_loss_literal"
    ] = Field(description="which images are dropped; see docs/pruning.md")
    score: Literal["loss", "deepfool"] = Field(
        "loss", description="loss, whose inverse is the distance; deepfool, the L2 distance to the boundary, unsigned"
    )
    target: DeepFoolTarget = "rechosen"
    at: Literal["adversarial", "clean"] = Field(
        "adversarial",
        description="whether images are scored after an RS-FGSM step or as they are, as they are by default for "
        "deepfool (papers.md, K3, K4)",
    )

    @model_validator(mode="before")
    @classmethod
    def _deepfool_starts_at_the_image(cls, values: Any) -> Any:
        by_deepfool = isinstance(values, dict) and values.get("score") == "deepfool"
        return {"at": "clean", **values} if by_deepfool else values

    @model_validator(mode="after")
    def _scores_are_used(self) -> "MidTraining":
        if self.strategy == "random" and (self.score, self.at) != ("loss", "adversarial"):
            raise ValueError(
                f"strategy = random scores no image, so score = {self.score} and at = {self.at} would change nothing"
            )
        return self

    @model_validator(mode="after")
    def _target_is_used(self) -> "MidTraining":
        if self.target == "fixed" and self.score != "deepfool":
            raise ValueError(f"target = fixed needs score = deepfool, not {self.score}")
        return self


class OnlinePuma(Settings):
    """PUMA by the margins of the model in training (PUMA, Section 5)."""

    threshold: Exact | None = Field(
        None, gt=0, description="margin from which images are dropped, in units of epsilon (26/8); null drops none"
    )
    warm_up_epochs: int = Field(0, ge=0, description="epochs before images are dropped, as the authors suggest")
    bisection_steps: int = Field(8, ge=0, description="halvings of [-epsilon, epsilon] on the way to the margin")

    @model_validator(mode="after")
    def _warm_up_ends_in_pruning(self) -> "OnlinePuma":
        if self.warm_up_epochs and self.threshold is None:
            raise ValueError(
                f"warm_up_epochs = {self.warm_up_epochs} needs a threshold, as without one no image is dropped"
            )
        return self


class PruningSettings(Settings):
    """How much is dropped, where a table's row does not say."""

    ratio: float = Field(0.2, ge=0, lt=1, description="share of the training images dropped")
