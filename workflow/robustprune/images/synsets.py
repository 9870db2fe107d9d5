"""A pool of the images that a class list names, encoded as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.marks import Ref
from robustprune.core.stage import PoolId, StageId
from robustprune.core.work import UnknownSizeError
from robustprune.images.formats.stream import EncodedImage
from robustprune.images.pool import PoolStage
from robustprune.images.settings import Overlap
from robustprune.images.synset_listing import ListedImage, SynsetFolder, require_folder

if TYPE_CHECKING:
    from robustprune.planning.plan import Plan


DEFINITION = {"pools.synsets": 1}

READING_THREADS = 8  # a shared disk answers late, but many at once
READ_AT_ONCE = 128  # images


class SynsetPoolStage(PoolStage):
    """Images of a class list, encoded as they are."""

    resources = "ingest"
    uses_device = False
    origin: Literal["synsets"] = "synsets"
    split: Literal["train", "test"]
    class_list: Annotated[StageId, Ref("classes")]
    source: SynsetFolder
    test: PoolId | None = Field(None, description="the pool of which it should have no image")
    overlap: Overlap = Field("refused", description="whether it may have some all the same")

    @property
    def slug(self) -> str:
        return f"{self.dataset}-{self.split}"

    def bytes_left(self, plan: Plan, parameters: Mapping[str, int]) -> int:
        """Raise UnknownSizeError: the size of encoded images is known when they are read."""
        raise UnknownSizeError(self.id)

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the images of a split; return count, class_counts, digest, and repeated images and test images.

        Raises:
            UserError: naming an image that is gone, has another size than when it was listed, or cannot be decoded; and
                if training images are also test images and must not be.
            Interrupted: after a signal, with the complete files kept.
        """
        from robustprune.images.class_files import Listing
        from robustprune.images.duplicates import facts_of_duplicates
        from robustprune.images.encoding import fill_encoded_pool, publish_encoded_pool

        folder = Path(self.source.location)
        require_folder(folder, self.source.digest)
        listing = Listing(job.upstream("classes", self.class_list), self.split)
        fill_encoded_pool(
            job,
            lambda first: read_images(folder, listing.images(first)),
            count=len(listing),
            source=f"the {self.split} images of {self.class_list}",
            folder=folder,
            **self.form,
        )
        found = facts_of_duplicates(job, test=self.test, overlap=self.overlap, place=self.source.location)
        return {**publish_encoded_pool(job), **found}


def read_images(folder: Path, listed: Iterator[tuple[ListedImage, int]]) -> Iterator[EncodedImage]:
    """Yield the listed images with their labels, in order, read by several threads."""
    with ThreadPoolExecutor(READING_THREADS, thread_name_prefix="read") as threads:
        while some := list(islice(listed, READ_AT_ONCE)):
            yield from threads.map(partial(_read, folder), some)


def _read(folder: Path, listed: tuple[ListedImage, int]) -> EncodedImage:
    image, label = listed
    path = image.file(folder)
    most = image.size + 1 if image.offset is None else image.size  # one byte more shows that a file grew
    try:
        with path.open("rb") as file:
            file.seek(image.offset or 0)
            content = file.read(most)
    except OSError as error:
        raise UserError(f"{path} was there when the classes were listed: {error}") from None
    if len(content) != image.size:
        raise UserError(f"{path}: {image.name} is not the {image.size:,} bytes it was when the classes were listed")
    return EncodedImage(content, label, f"{image.synset}/{image.name}")
