"""Images that are scored directly, and what of them is held out to choose the settings by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from robustprune.core.errors import UserError
from robustprune.core.randomness import derive_seed
from robustprune.images.pool import Digests, Pool, open_pool
from robustprune.scores.embeddings.files import Embeddings, open_embeddings
from robustprune.scores.files import Meaning, read_score

if TYPE_CHECKING:
    from robustprune.core.job import Job
    from robustprune.scores.extrapolated import ScoredPool
    from robustprune.scores.extrapolation.choice import Scores
    from robustprune.scores.extrapolation.neighbour_settings import NeighbourSettings, Sources

SHOWN = 5  # pairs named in a message


def refuse_shared(rows: npt.NDArray[np.int64], targets: Digests, sources: Digests, *, target: str, source: str) -> None:
    """Raise UserError naming the number and first ids of the images that are in both pools, if there are any.

    Args:
        rows: of ``targets``, those that ``sources`` have, too.
        targets: digests of the images that get scores.
        sources: digests of those that have them.
        target: the pool of the first, for the message.
        source: the pool of the second.
    """
    if not len(rows):
        return
    pairs = [(int(row), int(np.flatnonzero(sources == targets[row])[0])) for row in rows[:SHOWN]]
    named = ", ".join(f"{row} (there {other})" for row, other in pairs)
    raise UserError(
        f"{len(rows)} of the {len(targets)} images of {target}, to which scores are extrapolated, are in {source}, "
        f"too, which is scored directly; first ids: {named}. Scores would be copied, not extrapolated: take disjoint "
        "pools, or set extrapolation.neighbours.allow_overlap: true"
    )


DEFINITION = {"extrapolation.overlap": 1, "extrapolation.sources": 1}

T = TypeVar("T")

LEAST_HELD_OUT = 10  # images, for a mean absolute error to say something


@dataclass(frozen=True)
class Source:
    """A pool with scores and embeddings.

    Attributes:
        pool_id: its id.
        pool: its images.
        embeddings: (N, D), memory-mapped.
        scores: (N,) float32.
        meaning: what the scores say.
        rows: (M,) int64, ascending: the images that may be neighbours; never those of infinite score, nor those held
            out from the trainings that are the score.
    """

    pool_id: str
    pool: Pool
    embeddings: Embeddings
    scores: Scores
    meaning: Meaning
    rows: npt.NDArray[np.int64]

    @property
    def censored(self) -> int:
        """Number of images whose score is not finite."""
        return int((~np.isfinite(self.scores)).sum())

    def without(self, rows: npt.NDArray[np.int64]) -> Source:
        """The same with fewer images."""
        return replace(self, rows=np.setdiff1d(self.rows, rows))


def open_source(job: Job, spec: ScoredPool) -> Source:
    """Open what an upstream made. Raises UserError where it is damaged or of different pools."""
    pool = open_pool(job.upstream("pools", spec.pool))
    scores, meaning = read_score(job.upstream("scores", spec.score), pool_digest=pool.info.digest)
    embeddings = open_embeddings(job.upstream("embeddings", spec.embedding), pool)
    rows = np.flatnonzero(np.isfinite(scores))
    return Source(spec.pool, pool, embeddings, scores, meaning, rows[rows >= spec.validation_images])


def check_sources(sources: Sequence[Source], target: Embeddings, settings: NeighbourSettings) -> None:
    """Raise UserError where the sources' scores or embeddings cannot be used together, or are too few for a k."""
    first = sources[0]
    for source in sources:
        if not len(source.rows):
            raise UserError(f"{source.pool_id} has no image with a finite score to extrapolate from")
        if source.meaning != first.meaning:
            raise UserError(
                f"the scores of {source.pool_id} are {source.meaning}, but those of {first.pool_id} {first.meaning}"
            )
        if source.embeddings.shape[1] != target.shape[1]:
            raise UserError(
                f"the embeddings of {source.pool_id} have {source.embeddings.shape[1]} numbers an image, but those of "
                f"the images to which scores are extrapolated {target.shape[1]}; one network should make all"
            )
    for name in settings.sources:
        usable = sum(len(source.rows) for source in chosen(sources, name))
        if usable < max(settings.k):
            raise UserError(
                f"extrapolation.neighbours.k = {max(settings.k)}, but sources = {name} leaves {usable} images that are "
                "scored and not held out; take a smaller k or score more images"
            )


def chosen(sources: Sequence[T], name: Sources) -> Sequence[T]:
    """Those of the sources that a setting names: all, the first (real) or the second (synthetic)."""
    return {"all": sources, "real": sources[:1], "synthetic": sources[1:]}[name]


def hold_out(
    sources: Sequence[Source], digests: Sequence[Digests], settings: NeighbourSettings
) -> tuple[npt.NDArray[np.int64], list[Source]]:
    """Take images from the last source, the one that is most like the target.

    Images that are a second time among those left are not held out: their score would be copied, not predicted.

    Args:
        sources: all sources.
        digests: of each source's images.
        settings: share and seed.

    Returns:
        (H,) int64 rows of the last source, ascending, and the sources without all that was drawn.

    Raises:
        UserError: when too few images are held out.
    """
    last = sources[-1]
    draw = np.random.default_rng(derive_seed(settings.seed, "held-out")).permutation(last.rows)
    drawn = np.sort(draw[: round(settings.held_out * len(last.rows))])
    rest = [*sources[:-1], last.without(drawn)]
    known = np.concatenate([own[source.rows] for own, source in zip(digests, rest, strict=True)])
    held_out = drawn[~np.isin(digests[-1][drawn], known)]
    if len(held_out) < LEAST_HELD_OUT:
        raise UserError(
            f"extrapolation.neighbours.held_out = {settings.held_out} leaves {len(held_out)} of the {len(last.rows)} "
            f"scored images of {last.pool_id} to choose the settings by; it should be at least {LEAST_HELD_OUT}"
        )
    return held_out, rest
