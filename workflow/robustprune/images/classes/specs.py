"""Lists of classes that a hierarchy is grouped into."""

from pydantic import Field

from robustprune.core.settings import DIGEST_PATTERN, Settings


class SynsetFolder(Settings):
    """A folder with a folder or archive of images for each synset. ``digest`` is of names and sizes."""

    digest: str = Field(pattern=DIGEST_PATTERN)
    location: str


class HierarchyFile(Settings):
    """Which synset is below which."""

    digest: str = Field(pattern=DIGEST_PATTERN)
    location: str
