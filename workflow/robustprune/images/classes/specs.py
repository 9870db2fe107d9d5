"""Lists of classes that a hierarchy is grouped into."""

from typing import Literal

from pydantic import Field

from robustprune.core.settings import DIGEST_PATTERN, Settings
from robustprune.core.stage import Stage


class SynsetFolder(Settings):
    """A folder with a folder or archive of images for each synset. ``digest`` is of names and sizes."""

    digest: str = Field(pattern=DIGEST_PATTERN)
    location: str


class HierarchyFile(Settings):
    """Which synset is below which."""

    digest: str = Field(pattern=DIGEST_PATTERN)
    location: str


class ClassListStage(Stage):
    """Classes of similar size, and which images are whose."""

    room = "images.classes.stage"
    modules = ("classes.files", "classes.grouping", "classes.hierarchy", "classes.listing")
    rule = "class_list"
    uses_device = False
    kind: Literal["classes"] = "classes"
    dataset: str
    source: SynsetFolder
    hierarchy: HierarchyFile
    classes: int
    ratio: float = Field(ge=1)
    test_images: int = Field(gt=0, description="of each class")
    seed: int = Field(ge=0)

    @property
    def slug(self) -> str:
        return f"{self.dataset}-classes"
