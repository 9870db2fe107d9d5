"""Images, and the generators that some of them are drawn from."""

import math
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, model_validator

from robustprune.core.marks import Ref
from robustprune.core.settings import DIGEST_PATTERN, Exact, Settings
from robustprune.core.stage import GeneratorId, ImageShape, PoolId, ScoreId, SharedRows, Stage, StageId
from robustprune.generation.settings import GeneratorSettings, SamplerSettings
from robustprune.images.classes.specs import SynsetFolder
from robustprune.images.settings import PICTURE_FORMATS, Overlap, Storage

TorchvisionName = Literal["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN"]


class FileSource(Settings):
    """Images in files. ``digest`` is what they are, ``location`` where they lie now."""

    format: Literal["idx", "npz", "parquet", "imagefolder", "webdataset"]
    digest: str = Field(pattern=DIGEST_PATTERN)
    location: tuple[str, ...]


class TorchvisionLocation(Settings):
    """Torchvision's root folder, whether what is missing there may be downloaded, and from where first."""

    folder: str
    download: bool
    mirrors: tuple[str, ...] = ()


class TorchvisionSource(Settings):
    """A data set that torchvision knows and checks by its own MD5 sums, so its name says what it is."""

    format: Literal["torchvision"] = "torchvision"
    name: TorchvisionName
    location: TorchvisionLocation


class DigitsSource(Settings):
    """scikit-learn's 1,797 digits, part of that package."""

    format: Literal["digits"] = "digits"


SOURCE_MODULES = {
    "parquet": ("pools.decoding",),
    "imagefolder": ("pools.decoding", "pools.ingest.listing"),
    "webdataset": ("pools.decoding", "pools.ingest.listing"),
}
"""What decides pixels besides a source's own module."""


class IngestedPoolStage(Stage):
    """Real or ready-made images, brought into the pool format."""

    room = "images.ingested"
    resources = "ingest"
    uses_device = False
    kind: Literal["pools"] = "pools"
    origin: Literal["ingested"] = "ingested"
    dataset: str
    split: Literal["train", "test", "synthetic"]
    classes: int
    image_shape: ImageShape
    source: Annotated[FileSource | TorchvisionSource | DigitsSource, Field(discriminator="format")]
    train: PoolId | None = Field(None, description="the pool of which equal images are counted")
    test: PoolId | None = Field(None, description="the pool of which it should have no image")
    overlap: Overlap = Field("refused", description="whether it may have some all the same")
    storage: Storage = Field("decoded", description="whether it has the source's pictures as they are, or pixels")

    @property
    def slug(self) -> str:
        return f"{self.dataset}-{self.split}"

    @property
    def decisive_modules(self) -> tuple[str, ...]:
        form, writer = self.source.format, "pools.writing" if self.storage == "decoded" else "pools.encoding"
        others = ("pools.ingest.idx",) if self.source.format == "torchvision" and "MNIST" in self.source.name else ()
        return ("pools.format", writer, f"pools.ingest.{form}", *SOURCE_MODULES.get(form, others))

    @model_validator(mode="after")
    def _has_pictures(self) -> "IngestedPoolStage":
        if self.storage == "encoded" and self.source.format not in PICTURE_FORMATS:
            raise ValueError(f"a pool from {self.source.format} has pixels, which are not kept encoded")
        return self


class SynsetPoolStage(Stage):
    """Images of a class list, encoded as they are."""

    room = "images.synsets"
    modules = ("pools.decoding", "pools.encoding", "pools.format", "pools.synsets")
    resources = "ingest"
    uses_device = False
    kind: Literal["pools"] = "pools"
    origin: Literal["synsets"] = "synsets"
    dataset: str
    split: Literal["train", "test"]
    class_list: Annotated[StageId, Ref("classes")]
    classes: int
    image_shape: ImageShape
    source: SynsetFolder
    test: PoolId | None = Field(None, description="the pool of which it should have no image")
    overlap: Overlap = Field("refused", description="whether it may have some all the same")

    @property
    def slug(self) -> str:
        return f"{self.dataset}-{self.split}"


class GeneratorStage(Stage):
    """An EDM trained on a real pool."""

    room = "generation.generator"
    modules = (
        "edm.augmentation",
        "edm.network",
        "edm.preconditioning",
        "edm.training",
        "precision",
        "randomness",
        "training.batches",
        "training.optimizers",
        "training.team",
        "training.trainset",
    )
    kind: Literal["generators"] = "generators"
    dataset: str
    pool: PoolId
    classes: int
    image_shape: ImageShape
    settings: GeneratorSettings

    @property
    def slug(self) -> str:
        return f"edm-{self.dataset}"


class GeneratedPoolStage(Stage):
    """Images drawn from a generator, the classes in turn."""

    room = "images.ingested"
    modules = (
        "edm.network",
        "edm.preconditioning",
        "edm.sampler",
        "pools.format",
        "pools.generated",
        "pools.writing",
        "precision",
        "sample_noise",
    )
    kind: Literal["pools"] = "pools"
    origin: Literal["generated"] = "generated"
    dataset: str
    generator: GeneratorId
    classes: int
    image_shape: ImageShape
    count: int = Field(gt=0)
    sampler: SamplerSettings

    @property
    def slug(self) -> str:
        return f"{self.dataset}-generated"

    @property
    def shared_rows(self) -> SharedRows:
        return SharedRows(most=self.count)


class SubsetPoolStage(Stage):
    """A random part of another pool; its images stay there."""

    room = "images.subset"
    modules = ("pools.drawing", "pools.subpools", "pools.subset", "randomness")
    resources = "ingest"
    uses_device = False
    kind: Literal["pools"] = "pools"
    origin: Literal["subset"] = "subset"
    dataset: str
    pool: PoolId
    classes: int
    image_shape: ImageShape
    count: int = Field(gt=0)
    balanced: bool
    apart_from: tuple[PoolId, ...] = Field(description="pools of which no image is drawn")
    seed: int = Field(ge=0)

    @property
    def slug(self) -> str:
        return f"{self.dataset}-subset"


class SelectedPoolStage(Stage):
    """The images of each class of a pool that a classifier is surest of, by its loss; they stay in their pool."""

    room = "scores.selected_pool"
    modules = ("pools.selected", "pools.subpools")
    resources = "ingest"
    uses_device = False
    kind: Literal["pools"] = "pools"
    origin: Literal["selected"] = "selected"
    dataset: str
    pool: PoolId
    score: ScoreId
    classes: int
    image_shape: ImageShape
    keep: Exact = Field(gt=0, le=1)

    @property
    def slug(self) -> str:
        return f"{self.dataset}-selected"

    def kept(self, images: int) -> int:
        """How many of so many images of a class are kept: the share, rounded, and at least one where there is any."""
        return max(math.floor(images * self.keep + Fraction(1, 2)), min(images, 1))


class UnionPart(Settings):
    """A pool of a union, and its share of the union's images in a batch; None where all are drawn alike."""

    pool: PoolId
    share: Exact | None


class UnionPoolStage(Stage):
    """Several pools, one after the other; their images stay there."""

    room = "images.union"
    modules = ("pools.subpools",)
    resources = "ingest"
    uses_device = False
    kind: Literal["pools"] = "pools"
    origin: Literal["union"] = "union"
    dataset: str
    parts: tuple[UnionPart, ...]
    classes: int
    image_shape: ImageShape

    @property
    def slug(self) -> str:
        return f"{self.dataset}-union"
