"""The stage that makes a gallery of what pruning sees."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.files import replacing, write_text
from robustprune.core.job import Job
from robustprune.core.paths import STORE_NAME
from robustprune.core.record import read_record
from robustprune.core.stage import ManifestId, PoolId, ScoreId, Stage, slug_of
from robustprune.core.stage_file import read_spec
from robustprune.report.gallery_bins import Bins, Numbers, Scores, of_bins, of_ends
from robustprune.report.gallery_cuts import cuts

if TYPE_CHECKING:
    from PIL import Image

    from robustprune.images.drawing import Rows
    from robustprune.images.pool import Pool
    from robustprune.pruning.prune import ManifestStage
    from robustprune.report.gallery_content import Choice, GallerySource, Grid, ShownImage

DEFINITION = {"gallery.sprites": 1}

LARGEST_SIDE = 48  # pixels of an image in the file; larger ones are scaled down
BLOCK = 16  # pixels that WebP's lossy form codes at once, so images there begin at multiples of it
LOSSLESS_BELOW = 32  # pixels; smaller images are a few hundred bytes all the same
QUALITY = 82  # of the lossy form, 0 ... 100


@dataclass(frozen=True)
class Part:
    """Rows of a scored pool that have one origin, with their (n,) scores, bins and, where known, predicted classes.

    ``name`` is that of the pool, or of the part of it that these rows are.
    """

    pool_id: str
    pool: Pool
    name: str
    rows: slice
    scores: Scores
    bins: Numbers
    predictions: npt.NDArray[np.int16] | None

    @property
    def labels(self) -> npt.NDArray[np.int16]:
        """(n,) classes."""
        return self.pool.labels[self.rows]

    @cached_property
    def ends(self) -> dict[str, Rows]:
        """The rows at each end of the scores, counted from the part's first."""
        return of_ends(self.scores, self.labels)

    @cached_property
    def shown(self) -> Rows:
        """All rows that are shown, ascending, counted from the part's first."""
        return np.unique(np.concatenate([*of_bins(self.bins, self.labels), *self.ends.values()]))


class GalleryStage(Stage):
    """The spread of some pools' scores, what manifests drop of them, and some of the images.

    ``scores`` has an id for each of the pools; ``manifests`` choose among the images of these pools.
    """

    sentence = "how scores are spread, what is pruned of them, and images of each part"
    uses_device = False
    kind: Literal["galleries"] = "galleries"
    pools: tuple[PoolId, ...] = Field(min_length=1)
    scores: tuple[ScoreId, ...] = Field(min_length=1)
    manifests: tuple[ManifestId, ...] = Field(min_length=1)

    @property
    def slug(self) -> str:
        return f"gallery-{slug_of(self.scores[0])}"

    def run(self, job: Job) -> dict[str, Any]:
        """Write gallery.json, and for each source a file with the images that are shown.

        Raises:
            UserError: when a store or manifest is damaged or belongs to another pool, or the scores do not mean the
            same.
        """
        from robustprune.images.pool import open_pool
        from robustprune.report.gallery_content import GALLERY_FILE, Gallery, sprite_file
        from robustprune.scores.score_files import read_score

        pools = {pool: open_pool(job.upstream("pools", pool)) for pool in self.pools}
        read = [
            read_score(job.upstream("scores", score), pool_digest=pool.info.digest)
            for score, pool in zip(self.scores, pools.values(), strict=True)
        ]
        if len({(meaning.column, meaning.easy) for _, meaning in read}) > 1:
            raise UserError(f"{' and '.join(self.scores)} do not mean the same, so they cannot be shown together")
        scores = np.concatenate([values for values, _ in read])
        bins, finite = Bins.over(scores), scores[np.isfinite(scores)]
        parts = [
            part
            for score, (values, _), pool in zip(self.scores, read, self.pools, strict=True)
            for part in _parts(pool, pools[pool], values, bins, _predictions(job, score))
        ]
        gallery = Gallery(
            score=read[0][1],
            edges=bins.edges,
            lowest=float(finite.min()) if len(finite) else None,
            highest=float(finite.max()) if len(finite) else None,
            classes=_class_names(job, self.pools[0], pools[self.pools[0]].info.classes),
            sources=[_source(job, number, part, bins) for number, part in enumerate(parts)],
            choices=[_choice(job, manifest, pools, scores, parts, bins) for manifest in self.manifests],
        )
        write_text(job.partial / GALLERY_FILE, gallery.model_dump_json() + "\n")
        job.publish(GALLERY_FILE, *(sprite_file(number) for number in range(len(parts))))
        shown = sum(len(part.shown) for part in parts)
        return {"images": len(scores), "shown": shown, "sources": len(parts), "manifests": len(self.manifests)}


def _predictions(job: Job, score: str) -> npt.NDArray[np.int16] | None:
    """(N,) what the scoring model takes each image for; None where the store does not tell."""
    from robustprune.scores.store.reader import open_store

    """Return the (N,) classes that the scoring model predicts; None where the store has none."""

    store = open_store(job.upstream("scores", score) / STORE_NAME)
    return store.read("prediction") if "prediction" in store.dtypes else None


def _parts(
    pool_id: str, pool: Pool, scores: Scores, bins: Bins, predictions: npt.NDArray[np.int16] | None
) -> Iterator[Part]:
    """Yield a part for each of the pools that a pool joins, or one for all of it."""
    joined = pool.info.members if len(pool.info.members) > 1 else ()
    lengths = [(member.pool, member.count) for member in joined] or [(pool_id, len(pool))]
    numbers, start = bins.of(scores), 0
    for name, length in lengths:
        rows = slice(start, start + length)
        known = None if predictions is None else predictions[rows]
        yield Part(pool_id, pool, slug_of(name), rows, scores[rows], numbers[rows], known)
        start += length


def _source(job: Job, number: int, part: Part, bins: Bins) -> GallerySource:
    """Write the images of a part, and return its description."""
    from robustprune.report.gallery_content import GallerySource, sprite_file

    sheet, grid, lossless = draw_sprite(part.pool.images[part.rows.start + part.shown])
    with replacing(job.partial / sprite_file(number)) as temporary:
        sheet.save(temporary, "WEBP", lossless=lossless, quality=QUALITY, method=4)
    split = getattr(read_spec(job.upstream("pools", part.pool_id)), "split", None)  # only real images have one
    return GallerySource(
        kind="real" if split in ("train", "test") else "generated",
        pool=part.pool_id,
        name=part.name,
        origin=part.pool.info.source,
        images=len(part.scores),
        not_scored=int(np.count_nonzero(part.bins < 0)),
        counts=bins.counts(part.bins, part.labels, part.pool.info.classes),
        shown=[_shown(part, row) for row in part.shown.tolist()],
        ends={end: np.searchsorted(part.shown, rows).tolist() for end, rows in part.ends.items()},
        grid=grid,
    )


def draw_sprite(images: npt.NDArray[np.uint8]) -> tuple[Image.Image, Grid, bool]:
    """Draw (n, C, H, W) images with 1 or 3 channels in one, line by line.

    Returns:
        the RGB or grey image, where each is, and whether it should be stored without loss.
    """
    from PIL import Image

    from robustprune.report.gallery_content import Grid

    count, channels, height, width = images.shape
    scale = min(1.0, LARGEST_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    lossless = max(size) < LOSSLESS_BELOW
    pitch = size if lossless else (BLOCK * math.ceil(size[0] / BLOCK), BLOCK * math.ceil(size[1] / BLOCK))
    columns = max(1, math.ceil(math.sqrt(count)))
    lines = max(1, math.ceil(count / columns))
    sheet = Image.new("L" if channels == 1 else "RGB", (columns * pitch[0], lines * pitch[1]))
    for number, image in enumerate(images):
        picture = Image.fromarray(image[0] if channels == 1 else image.transpose(1, 2, 0))
        if scale < 1:
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        sheet.paste(picture, (number % columns * pitch[0], number // columns * pitch[1]))
    return sheet, Grid(columns, pitch, size), lossless


def _shown(part: Part, row: int) -> ShownImage:
    from robustprune.report.gallery_content import ShownImage

    score = float(part.scores[row])
    return ShownImage(
        row=part.rows.start + row,
        label=int(part.labels[row]),
        bin=int(part.bins[row]),
        score=float(f"{score:.5g}") if np.isfinite(score) else None,
        prediction=None if part.predictions is None else int(part.predictions[row]),
    )


def _class_names(job: Job, pool_id: str, classes: int) -> list[str]:
    """The names of the classes where the pool's source has some, else their numbers."""
    from robustprune.images.class_files import read_class_names

    """Return the names of the classes where the pool's source has some, else their numbers."""

    directory = job.upstream("pools", pool_id)
    spec = read_spec(directory)
    if (class_list := getattr(spec, "class_list", None)) is not None:
        return read_class_names(job.upstream("classes", class_list))
    names = read_record(directory).facts.get("class_names", [])
    return [str(name) for name in names] or [str(number) for number in range(classes)]


def _choice(job: Job, manifest: str, pools: dict[str, Pool], scores: Scores, parts: list[Part], bins: Bins) -> Choice:
    from robustprune.pruning.manifest import read_manifest
    from robustprune.report.gallery_content import DROPPED, HELD_OUT, KEPT, Choice

    directory = job.upstream("manifests", manifest)
    spec = cast("ManifestStage", read_spec(directory))
    kept = read_manifest(directory, pools)
    fates = {pool: np.full(len(pools[pool]), DROPPED, np.int8) for pool in pools}
    for number, (pool, fate) in enumerate(fates.items()):
        fate[: 0 if number else spec.validation_images] = HELD_OUT
        fate[kept[pool].rows] = KEPT
    every = np.concatenate(list(fates.values()))
    stops = np.cumsum([len(fate) for fate in fates.values()]).tolist()
    found = cuts(
        scores,
        every == DROPPED,
        every != HELD_OUT,
        np.concatenate([pool.labels for pool in pools.values()]),
        [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)],
        per=spec.per,
        among=spec.among,
        names=tuple(pools),
    )
    by_part = [fates[part.pool_id][part.rows] for part in parts]

    def counts(wanted: int) -> list[list[list[int]]]:
        return [
            bins.counts(np.where(fate == wanted, part.bins, -1), part.labels, part.pool.info.classes)
            for part, fate in zip(parts, by_part, strict=True)
        ]

    return Choice(
        manifest=manifest,
        dropped=counts(DROPPED),
        held_out=counts(HELD_OUT),
        shown=[fate[part.shown].tolist() for part, fate in zip(parts, by_part, strict=True)],
        cuts=found,
    )
