"""A gallery's files: gallery.json, and for each source one image that holds all of its images that are shown."""

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from robustprune.core.errors import UserError
from robustprune.core.settings import Settings
from robustprune.core.stage import StageId
from robustprune.report.gallery_cuts import Cut
from robustprune.scores.score import Meaning

GALLERY_FILE = "gallery.json"
KEPT, DROPPED, HELD_OUT = 0, 1, 2
"""What a manifest does with an image; held out are those for validation, which cannot be trained on."""


def sprite_file(number: int) -> str:
    """Return the name of the file with the images of the source of that number."""
    return f"images-{number}.webp"


class Grid(NamedTuple):
    """Places of images in a file: how many in a line, the width and height of a place, and those of an image in it."""

    columns: int
    pitch: tuple[int, int]
    size: tuple[int, int]


class ShownImage(Settings):
    """An image that is shown; ``row`` is that in its pool, an infinite score is None."""

    row: int
    label: int
    bin: int
    score: float | None
    prediction: int | None = None


class GallerySource(Settings):
    """Images of one origin: those of a pool, or of a pool that it is made of.

    Attributes:
        pool: id of the scored pool.
        name: the pool's, or its part's, without the hash.
        origin: where they come from, in words.
        not_scored: how many have no score.
        counts: images of each class in each bin.
        shown: in the order they have in the file.
        ends: by end (highest, lowest, negative, endless) which of ``shown`` lie there, from the outermost.
    """

    kind: Literal["real", "generated"]
    pool: StageId
    name: str
    origin: str
    images: int
    not_scored: int
    counts: list[list[int]]
    shown: list[ShownImage]
    ends: dict[str, list[int]]
    grid: Grid


class Choice(Settings):
    """Images that a manifest drops and keeps.

    Attributes:
        dropped: for each source, images of each class in each bin that it drops.
        held_out: the same of those for validation, which it could not keep.
        shown: for each source, KEPT, DROPPED or HELD_OUT for each image that is shown.
    """

    manifest: StageId
    dropped: list[list[list[int]]]
    held_out: list[list[list[int]]]
    shown: list[list[int]]
    cuts: list[Cut]


class Gallery(Settings):
    """All that a page shows of some pools' scores.

    Attributes:
        edges: of the finite bins; bin 0 is minus infinity, the last one plus infinity.
        lowest: the lowest finite score, which may lie before the first edge.
    """

    score: Meaning
    edges: list[float]
    lowest: float | None
    highest: float | None
    classes: list[str]
    sources: list[GallerySource]
    choices: list[Choice]


def read_gallery(directory: Path) -> Gallery:
    """Return the gallery in a stage's directory. Raises UserError where there is none."""
    path = directory / GALLERY_FILE
    try:
        return Gallery.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise UserError(f"{path} is not a readable gallery: {' '.join(str(error).split())}") from None
