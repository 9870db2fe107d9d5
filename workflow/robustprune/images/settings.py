"""Settings of pools that are made of others."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from robustprune.core.settings import Exact, Settings
from robustprune.images.formats.data_format import FORMATS

FILES = [name for name in FORMATS if name not in ("digits", "torchvision")]  # formats of a user's files
GENERATED_FILES = [name for name in FILES if FORMATS.facts(name)["generated"]]
PICTURE_FORMATS = [name for name in FILES if FORMATS.facts(name)["pictures"]]
SOURCE_PATTERN = rf"^(digits|torchvision(:.+)?|({'|'.join(FILES)}|imagenet21k):.+)$"
"""Real images: ``data.source``."""
GENERATED_PATTERN = rf"generate|({'|'.join(GENERATED_FILES)}):.+|(subset|union|selection):[A-Za-z0-9_]+"
"""Generated images: ``synthetic.source`` and the like."""

TrainedOn = Literal["all", "real", "synthetic", "source", "real_and_source"]
"""Images that models are trained on: ``all`` real and generated ones, or only some; ``source`` are those of
extrapolation.source, in place of the generated ones."""

Storage = Literal["decoded", "encoded"]
"""How a pool keeps a source's pictures: as pixels, or as they are, decoded when a row is asked for."""

Overlap = Literal["refused", "allowed"]
"""What to do with training images that are also test images."""

DataName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+$")]
"""Short name of a data set, as in the names of folders."""

Source = Annotated[str, StringConstraints(pattern=f"^({GENERATED_PATTERN})$")]


class HierarchySettings(Settings):
    """Settings of grouping a hierarchy of synsets into classes (PUMA, Appendix C)."""

    file: str | None = Field(
        None, description="pairs 'parent child', a line each; null: wordnet.is_a.txt in the folder of the images"
    )
    ratio: float = Field(5.0, ge=1, description="how many times the smallest class the largest can have")
    test_images: int = Field(100, gt=0, description="images of each class that are for testing, drawn at random")
    seed: int = Field(0, ge=0, description="of that draw")


class SubsetSettings(Settings):
    """A random part of a source of generated images."""

    of: Source = Field(description="the source that it is drawn from, as in synthetic.source")
    count: int = Field(gt=0, description="images drawn")
    balanced: bool = Field(True, description="whether each class has as many (or one more)")
    apart_from: tuple[Source, ...] = Field((), description="sources of which no image is drawn")
    seed: int = Field(0, ge=0, description="of the draw; with one seed, a smaller part lies within a larger one")

    @property
    def sources(self) -> tuple[str, ...]:
        """All sources that it is made of or has no image of."""
        return (self.of, *self.apart_from)


class SelectionSettings(Settings):
    """The images of each class that a classifier is surest of, as Wang et al. (2023) chose theirs."""

    of: Source = Field(description="the source that is chosen from, as in synthetic.source")
    keep: Exact = Field(gt=0, le=1, description="share of each class that is kept, e.g. 1/5")
    classifier: str | None = Field(
        None, description="a checkpoint of the config; null: one trained on the real images alone by training.standard"
    )

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.of,)


class UnionSettings(Settings):
    """Several sources of generated images together."""

    of: dict[Source, Exact | None] = Field(
        min_length=2,
        description="the sources, each with its share of the generated images of a batch; null for all where "
        "images of all are drawn alike",
    )

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(self.of)

    @model_validator(mode="after")
    def _shares_add_up(self) -> "UnionSettings":
        shares = list(self.of.values())
        numbers = [share for share in shares if share is not None]
        if numbers and (len(numbers) < len(shares) or min(numbers) <= 0 or sum(numbers) != 1):
            given = ", ".join(str(share) for share in shares)
            raise ValueError(f"the shares should all be null, or above 0 and 1 in all, but are {given}")
        return self
