"""Extrapolation of a score: its sources, the held-out images that choose its settings, and the neighbour search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from robustprune.core.errors import UserError
from robustprune.core.randomness import derive_seed
from robustprune.core.rows import Columns, RowPass, collect, compute_rows
from robustprune.images.duplicates import rows_also_in
from robustprune.images.pool import Digests, open_pool, read_digests
from robustprune.scores.embedding_files import Embeddings, open_embeddings
from robustprune.scores.neighbours import Points, Space, nearest
from robustprune.scores.regression import ScoredNeighbours, Scores, Trial, merge, predict, trials
from robustprune.scores.score import Meaning
from robustprune.scores.score_files import read_score

if TYPE_CHECKING:
    from robustprune.core.job import Job
    from robustprune.scores.extrapolated import (
        Distance,
        ExtrapolatedScoreStage,
        NeighbourSettings,
        ScoredPool,
        Sources,
    )

DEFINITION = {"extrapolation.overlap": 1, "extrapolation.sources": 1}

SHOWN = 5  # pairs named in a message
LEAST_HELD_OUT = 10  # images, for a meaningful mean absolute error

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """A pool with scores and embeddings.

    Images with an infinite score are no neighbours, nor those held out from the trainings that recorded the score.
    """

    pool_id: str
    digests: Digests  # (N,) of its images
    embeddings: Embeddings  # (N, D), memory-mapped
    scores: Scores  # (N,)
    meaning: Meaning
    rows: npt.NDArray[np.int64]  # (M,), ascending: the images that may be neighbours

    def search(self, metric: Distance, k: int, device: torch.device) -> Callable[[Embeddings], ScoredNeighbours]:
        """Return a function of (M, D) targets that returns their ``k`` nearest neighbours; all if there are fewer."""
        points = Points(self.embeddings, self.rows)
        space = Space(metric, points)

        def search(targets: Embeddings) -> ScoredNeighbours:
            on_device = torch.from_numpy(np.array(targets)).to(device).to(torch.float32)
            neighbours = nearest(on_device, points, space, k=min(k, len(points)))
            return ScoredNeighbours(neighbours.distance, self.scores[neighbours.row])

        return search


class Extrapolation:
    """The sources and targets of an extrapolated score, and the settings that predict held-out scores best.

    Attributes:
        sources: pools with scores.
        targets: (N, D) embeddings of the images to score.
        facts: facts for the record: the sources, the settings chosen and their quality on the held-out images.
        tried: every combination of the settings.
        choice: the best of these.

    Raises UserError if pools overlap, scores or embeddings do not fit each other, or too few images are scored.
    """

    def __init__(self, job: Job, spec: ExtrapolatedScoreStage) -> None:
        self._job, self._together = job, spec.shared_rows.together
        pool = open_pool(job.upstream("pools", spec.pool))
        self.targets = open_embeddings(job.upstream("embeddings", spec.embedding), pool)
        self.sources = [open_source(job, source) for source in spec.sources]
        shared = count_shared(job, spec, self.sources)
        held_out, rest = hold_out(self.sources, spec.settings)
        check_sources(rest, self.targets, spec.settings)
        self.tried = _try(job, spec, self.sources[-1], held_out, rest)
        self.choice = min(self.tried, key=lambda trial: trial.choosing_mae)  # the first of equal ones
        self.facts: dict[str, Any] = {
            "sources": {
                source.pool_id: {"used": len(source.rows), "censored": int((~np.isfinite(source.scores)).sum())}
                for source in self.sources
            },
            "shared_images": shared,
            "held_out": {"images": len(held_out) // 2, **asdict(self.choice.quality)},
            "settings": self.choice.settings,
        }

    def row_pass(self) -> RowPass:
        """Return the pass that scores some or all images."""
        choice, column = self.choice, self.sources[0].meaning.column
        sources = chosen(self.sources, choice.sources)
        searches = [source.search(choice.metric, choice.k, self._job.device) for source in sources]

        def extrapolate(start: int, stop: int) -> Columns:
            neighbours = merge([search(self.targets[start:stop]) for search in searches]).first(choice.k)
            scores = predict(neighbours.score, neighbours.distance, weighting=choice.weighting)
            return {column: scores, "nearest": neighbours.distance[:, 0].copy()}

        what, together = "extrapolating scores", self._together
        return partial(compute_rows, self._job, len(self.targets), extrapolate, what=what, batch_size=together)


def open_source(job: Job, spec: ScoredPool) -> Source:
    """Open the scores and embeddings of a pool. Raises UserError if they are damaged or of different pools."""
    directory = job.upstream("pools", spec.pool)
    pool = open_pool(directory)
    scores, meaning = read_score(job.upstream("scores", spec.score), pool_digest=pool.info.digest)
    embeddings = open_embeddings(job.upstream("embeddings", spec.embedding), pool)
    rows = np.flatnonzero(np.isfinite(scores))
    rows = rows[rows >= spec.validation_images]
    return Source(spec.pool, read_digests(directory), embeddings, scores, meaning, rows)


def count_shared(job: Job, spec: ExtrapolatedScoreStage, sources: Sequence[Source]) -> int:
    """Return the number of target images that the sources also have. Raises UserError unless overlap is allowed."""
    targets = read_digests(job.upstream("pools", spec.pool))
    shared = [rows_also_in(targets, source.digests) for source in sources]
    for source, rows in zip(sources, shared, strict=True):
        if len(rows) and not spec.settings.allow_overlap:
            pairs = [(int(row), int(np.flatnonzero(source.digests == targets[row])[0])) for row in rows[:SHOWN]]
            named = ", ".join(f"{row} (there {other})" for row, other in pairs)
            raise UserError(
                f"{len(rows)} of the {len(targets)} images of {spec.pool}, to which scores are extrapolated, are in "
                f"{source.pool_id}, too, which is scored directly; first ids: {named}. Scores would be copied, not "
                "extrapolated: take disjoint pools, or set extrapolation.neighbours.allow_overlap: true"
            )
    return len(np.unique(np.concatenate(shared)))


def check_sources(sources: Sequence[Source], target: Embeddings, settings: NeighbourSettings) -> None:
    """Raise UserError if the sources' scores or embeddings cannot be used together, or are too few for a k."""
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
    """Return the sources that a setting names: all, the first (real) or the second (synthetic)."""
    return {"all": sources, "real": sources[:1], "synthetic": sources[1:]}[name]


def hold_out(sources: Sequence[Source], settings: NeighbourSettings) -> tuple[npt.NDArray[np.int64], list[Source]]:
    """Hold out images of the last source, the one most like the target.

    Copies of images that remain are not held out: their score would be copied, not predicted. Raises UserError if too
    few images are held out.

    Returns:
        (H,) int64 rows of the last source, ascending, and the sources without all images drawn.
    """
    last = sources[-1]
    draw = np.random.default_rng(derive_seed(settings.seed, "held-out")).permutation(last.rows)
    drawn = np.sort(draw[: round(settings.held_out * len(last.rows))])
    rest = [*sources[:-1], replace(last, rows=np.setdiff1d(last.rows, drawn))]
    known = np.concatenate([source.digests[source.rows] for source in rest])
    held_out = drawn[~np.isin(last.digests[drawn], known)]
    if len(held_out) < LEAST_HELD_OUT:
        raise UserError(
            f"extrapolation.neighbours.held_out = {settings.held_out} leaves {len(held_out)} of the {len(last.rows)} "
            f"scored images of {last.pool_id} to choose the settings by; it should be at least {LEAST_HELD_OUT}"
        )
    return held_out, rest


def _try(
    job: Job, spec: ExtrapolatedScoreStage, last: Source, held_out: npt.NDArray[np.int64], rest: list[Source]
) -> list[Trial]:
    """Return every combination of the settings, tried on the held-out images of the last source."""
    settings, what, together = spec.settings, "choosing the settings", spec.shared_rows.together
    searches = {
        metric: [source.search(metric, max(settings.k), job.device) for source in rest] for metric in settings.metric
    }

    def search(start: int, stop: int) -> Columns:
        targets, columns = last.embeddings[held_out[start:stop]], {}
        for metric in settings.metric:
            by_source = [search(targets) for search in searches[metric]]
            for sources in settings.sources:
                neighbours = merge(chosen(by_source, sources))
                columns[f"distance-{metric}-{sources}"] = neighbours.distance
                columns[f"score-{metric}-{sources}"] = neighbours.score
        return columns

    columns = collect(compute_rows(job, len(held_out), search, what=what, batch_size=together, name="held-out"))
    constant = float(rest[-1].scores[rest[-1].rows].mean(dtype=np.float64))
    tried: list[Trial] = []
    for metric in settings.metric:
        for sources in settings.sources:
            key = f"{metric}-{sources}"
            neighbours = ScoredNeighbours(columns[f"distance-{key}"], columns[f"score-{key}"])
            tried += trials(metric, sources, neighbours, last.scores[held_out], settings, constant=constant)
    return tried
