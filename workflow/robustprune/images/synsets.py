"""A pool of the images that a class list names, encoded as they are."""

from __future__ import annotations

import os
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
from robustprune.images.classes.listing import ListedImage, require_folder
from robustprune.images.classes.specs import SynsetFolder
from robustprune.images.pool_stage import PoolStage
from robustprune.images.settings import Overlap

if TYPE_CHECKING:
    from robustprune.images.formats.stream import EncodedImage
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
        """Bring the images of a split into a pool of encoded images.

        Returns:
            count, class_counts and digest of the pool; its repeats, and how many of its images are also test images.

        Raises:
            UserError: naming an image that is gone, or has another size than when it was listed, or cannot be decoded;
            and
                where training images are also test images and must not be.
            Interrupted: after a signal, with the files written so far kept.
        """
        from robustprune.images.classes.files import Listing
        from robustprune.images.duplicates import facts_of_overlaps, facts_of_repeats
        from robustprune.images.encoding import fill_encoded_pool, publish_encoded_pool

        folder = Path(self.source.location)
        require_folder(folder, self.source.digest)
        listing = Listing(job.upstream("classes", self.class_list), self.split)
        fill_encoded_pool(
            job,
            lambda first: read_images(folder, listing.images(first)),
            count=len(listing),
            image_shape=self.image_shape,
            classes=self.classes,
            dataset=self.dataset,
            source=f"the {self.split} images of {self.class_list}",
            folder=folder,
        )
        allowed = self.overlap == "allowed"
        found = facts_of_overlaps(job, {"test": self.test}, allowed=allowed, place=self.source.location)
        return {**publish_encoded_pool(job), **facts_of_repeats(job), **found}


def read_images(folder: Path, listed: Iterator[tuple[ListedImage, int]]) -> Iterator[EncodedImage]:
    """The listed images with their labels, in order, read by several threads."""
    with ThreadPoolExecutor(READING_THREADS, thread_name_prefix="read") as threads:
        while some := list(islice(listed, READ_AT_ONCE)):
            yield from threads.map(partial(_read, folder), some)


def _read(folder: Path, listed: tuple[ListedImage, int]) -> EncodedImage:
    from robustprune.images.formats.stream import EncodedImage

    image, label = listed
    file = image.file(folder)
    try:
        content = _bytes(file, image)
    except OSError as error:
        raise UserError(f"{file} was there when the classes were listed: {error}") from None
    if len(content) != image.size:
        raise UserError(f"{file}: {image.name} is not the {image.size:,} bytes it was when the classes were listed")
    return EncodedImage(content, label, f"{image.synset}/{image.name}")


def _bytes(file: Path, image: ListedImage) -> bytes:
    most = image.size + 1 if image.offset is None else image.size  # one byte more tells of a file that grew
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return os.pread(descriptor, most, image.offset or 0)
    finally:
        os.close(descriptor)
