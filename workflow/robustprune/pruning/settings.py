"""Settings of pruning: which images are dropped, and how many."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from robustprune.core.settings import Exact, Settings
from robustprune.core.stage import ManifestId
from robustprune.core.wording import suggestion

End = Literal["easy", "difficult", "high", "low", "middle", "chance"]
"""Where images are dropped from: an end of the score's range, its mean, or anywhere."""

ENDS: dict[str, tuple[End, ...]] = {
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
"""Where each strategy drops images from; what is left after the first end is dropped from the second.

The names are the papers'; docs/pruning.md has them in a table.
"""


def _known(strategy: str) -> str:
    if strategy not in ENDS:
        raise ValueError(f"there is no strategy {strategy!r}{suggestion(strategy, list(ENDS))}")
    return strategy


Strategy = Annotated[str, AfterValidator(_known)]
"""Which images are dropped."""

Per = Literal["all", "class", "source"]
"""Among which images a share is taken: all, those of a class, or those of a pool."""

Among = Literal["all", "real", "synthetic"]
"""Which images may be dropped at all; the others are kept."""


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


class PruningSettings(Settings):
    """Settings of pruning for rows that do not say how much is dropped."""

    ratio: float = Field(0.2, ge=0, lt=1, description="share of the training images dropped")
