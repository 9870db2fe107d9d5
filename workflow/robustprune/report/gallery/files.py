"""gallery.json: how scores are spread over bins, what manifests drop of each, and which images are shown."""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from robustprune.core.errors import UserError
from robustprune.core.settings import Settings
from robustprune.core.stage import StageId
from robustprune.report.gallery.cuts import Cut
from robustprune.report.gallery.sprites import Grid
from robustprune.scores.score import Meaning

GALLERY_FILE = "gallery.json"
KEPT, DROPPED, HELD_OUT = 0, 1, 2
"""What a manifest does with an image; held out are those for validation, which cannot be trained on."""


def sprite_file(number: int) -> str:
    """The file with the images of the source of that number."""
    return f"images-{number}.webp"


class ShownImage(Settings):
    """An image that is shown.

    Attributes:
        row: in its pool.
        label: its class.
        bin: of its score.
        score: None where it is infinite.
        prediction: the class that the model takes it for, where the store says it.
    """

    row: int
    label: int
    bin: int
    score: float | None
    prediction: int | None = None


class GallerySource(Settings):
    """Images of one origin: those of a pool, or of a pool that it is made of.

    Attributes:
        kind: whether they are real or generated.
        pool: id of the scored pool.
        name: the pool's, or its part's, without the hash.
        origin: where they come from, in words.
        images: how many.
        not_scored: how many have no score.
        counts: images of each class in each bin.
        shown: the images that are shown, in the order they have in the file.
        ends: by end (highest, lowest, negative, endless) which of them lie there, from the outermost.
        grid: where they are in the file.
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
        shown: for each source, what it does with each image that is shown.
        cuts: where it cuts.
    """

    manifest: StageId
    dropped: list[list[list[int]]]
    held_out: list[list[list[int]]]
    shown: list[list[int]]
    cuts: list[Cut]


class Gallery(Settings):
    """All that a page shows of some pools' scores.

    Attributes:
        score: what the scores say.
        edges: of the finite bins; bin 0 is minus infinity, the last one plus infinity.
        lowest: the lowest finite score, which may lie before the first edge.
        highest: the highest.
        classes: their names.
    """

    score: Meaning
    edges: list[float]
    lowest: float | None
    highest: float | None
    classes: list[str]
    sources: list[GallerySource]
    choices: list[Choice]


def read_gallery(directory: Path) -> Gallery:
    """The gallery in a stage's directory. Raises UserError where there is none."""
    path = directory / GALLERY_FILE
    try:
        return Gallery.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise UserError(f"{path} is not a readable gallery: {' '.join(str(error).split())}") from None
