"""Settings of pruning: which images are dropped, and with what radius the rest is attacked."""

from typing import Annotated, Literal

from pydantic import Field

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


class PruningSettings(Settings):
    """How much is dropped, where a table's row does not say."""

    ratio: float = Field(0.2, ge=0, lt=1, description="share of the training images dropped")
