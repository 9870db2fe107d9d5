"""The stage that extrapolates a score from pools that were scored to one that was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.core.files import replacing
from robustprune.core.job import Job
from robustprune.core.paths import GRID_FILE
from robustprune.core.rows import Columns, RowPass, collect, compute_rows
from robustprune.core.settings import Settings
from robustprune.core.stage import EmbeddingId, PoolId, ScoreId, SharedRows, slug_of
from robustprune.core.work import FLOAT_BYTES
from robustprune.scores.extrapolation.neighbour_settings import Distance, NeighbourSettings
from robustprune.scores.score import ScoreStage

if TYPE_CHECKING:
    from robustprune.planning.plan import Plan
    from robustprune.scores.extrapolation.choice import Found, Trial
    from robustprune.scores.extrapolation.neighbours import Embeddings
    from robustprune.scores.extrapolation.sources import Source


DEFINITION = {"extrapolation.stage": 1}


class Search:
    """Looks for neighbours in a source.

    Args:
        job: the running stage.
        source: what is searched.
        metric: in which metric.
        k: number of neighbours; all images of the source where it has fewer.
    """

    def __init__(self, job: Job, source: Source, metric: Distance, k: int) -> None:
        from robustprune.scores.extrapolation.neighbours import Points, Space

        self._device, self._scores = job.device, source.scores
        self._points = Points(source.embeddings, source.rows)
        self._space = Space(metric, self._points)
        self._k = min(k, len(self._points))

    def of(self, targets: Embeddings) -> Found:
        """The neighbours of (M, D) targets."""
        import torch

        from robustprune.scores.extrapolation.choice import Found
        from robustprune.scores.extrapolation.neighbours import nearest

        placed = torch.from_numpy(np.array(targets)).to(self._device).to(torch.float32)
        found = nearest(placed, self._points, self._space, k=self._k)
        return Found(found.distance, self._scores[found.row])


@dataclass(frozen=True)
class Extrapolation:
    """The settings are chosen; what is left is to look for the neighbours of each image.

    Attributes:
        sources: what is searched.
        targets: (N, D) embeddings of the images that get a score.
        tried: every combination of the settings, on the held-out images.
        held_out: how many images these are; half choose the settings, and half measure them.
        shared: how many images of the sources the target has, too.
        together: images whose neighbours are looked for at once.
    """

    sources: list[Source]
    targets: Embeddings
    tried: list[Trial]
    held_out: int
    shared: int
    together: int | None

    @property
    def choice(self) -> Trial:
        """The best combination."""
        from robustprune.scores.extrapolation.choice import best

        return best(self.tried)

    def facts(self) -> dict[str, Any]:
        """Return what there is to tell of it."""
        return {
            "sources": {one.pool_id: {"used": len(one.rows), "censored": one.censored} for one in self.sources},
            "shared_images": self.shared,
            "held_out": {"images": self.held_out // 2, **asdict(self.choice.quality)},
            "settings": _settings(self.choice),
        }

    def row_pass(self, job: Job) -> RowPass:
        """Return the pass that scores some or all images; the first of several jobs chooses the settings."""
        from robustprune.scores.extrapolation.choice import merge, predict
        from robustprune.scores.extrapolation.sources import chosen

        choice, column = self.choice, self.sources[0].meaning.column
        searches = [Search(job, source, choice.metric, choice.k) for source in chosen(self.sources, choice.sources)]

        def extrapolate(start: int, stop: int) -> Columns:
            found = merge([search.of(self.targets[start:stop]) for search in searches]).first(choice.k)
            scores = predict(found.score, found.distance, weighting=choice.weighting)
            return {column: scores, "nearest": found.distance[:, 0].copy()}

        what = "extrapolating scores"
        return partial(compute_rows, job, len(self.targets), extrapolate, what=what, batch_size=self.together)


EXTRAPOLATED_TOGETHER = 2**13  # images whose neighbours are looked for at once: 268 MB of inner products


class ScoredPool(Settings):
    """A pool that is scored directly, and its embedding.

    Its first ``validation_images`` were held out from the trainings whose course is the score, so nothing is
    extrapolated from them.
    """

    pool: PoolId
    score: ScoreId
    embedding: EmbeddingId
    validation_images: int = Field(0, ge=0, exclude_if=lambda images: images == 0)  # so that older ids stay


class ExtrapolatedScoreStage(ScoreStage):
    """The score of every image of a pool, from those of its nearest neighbours in pools that are scored directly.

    ``sources`` are the real pool and, where there is one, a synthetic pool; images of the last are held out to choose
    among the settings.
    """

    kind: Literal["scores"] = "scores"
    score: Literal["extrapolated"] = "extrapolated"
    embedding: EmbeddingId
    sources: tuple[ScoredPool, ...] = Field(min_length=1, max_length=2)
    settings: NeighbourSettings

    @property
    def slug(self) -> str:
        return f"extrapolated-{slug_of(self.pool)}"

    @property
    def shared_rows(self) -> SharedRows:
        return SharedRows(pool=self.pool, together=EXTRAPOLATED_TOGETHER)

    def run(self, job: Job) -> dict[str, Any]:
        """Choose the settings on held-out images, then publish the extrapolated scores and grid.csv.

        The store has the column of the sources' score and ``nearest``, the distance of the nearest neighbour.

        Returns:
            what ``publish_score`` does; the sources' images and how many of them have infinite scores; images shared
            with the target; the settings chosen, by half of the held-out images, and how well they predict the others.

        Raises:
            UserError: as ``row_pass``.
        """
        from robustprune.images.pool import open_pool
        from robustprune.scores.files import publish_score

        extrapolation = _prepare(job, self)
        blocks = extrapolation.row_pass(job)()
        _write_grid(job, extrapolation.tried, images=extrapolation.held_out)
        meaning, facts = extrapolation.sources[0].meaning, extrapolation.facts()
        meaning = replace(meaning, sign=f"{meaning.sign}; extrapolated from the nearest images that are scored")
        pool = open_pool(job.upstream("pools", self.pool))
        return {**publish_score(job, self, blocks, meaning, pool, {"extrapolation": facts}), **facts}

    def bytes_left(self, plan: Plan, parameters: Mapping[str, int]) -> int:
        """Return the size of the score and of the distance to the nearest neighbour."""
        return plan.count(self.pool) * 2 * FLOAT_BYTES

    def row_pass(self, job: Job) -> RowPass:
        """Return the pass that scores some or all images; the first of several jobs chooses the settings.

        Raises:
            UserError: where pools overlap, scores or embeddings do not fit each other, or too few images are scored.
        """
        return _prepare(job, self).row_pass(job)


def _prepare(job: Job, spec: ExtrapolatedScoreStage) -> Extrapolation:
    from robustprune.images.duplicates import rows_also_in
    from robustprune.images.pool import open_pool, read_digests
    from robustprune.scores.embeddings.files import open_embeddings
    from robustprune.scores.extrapolation.sources import check_sources, hold_out, open_source, refuse_shared

    pool = open_pool(job.upstream("pools", spec.pool))
    embeddings = open_embeddings(job.upstream("embeddings", spec.embedding), pool)
    sources = [open_source(job, source) for source in spec.sources]
    digests = [read_digests(job.upstream("pools", source.pool_id)) for source in sources]
    own = read_digests(job.upstream("pools", spec.pool))
    shared = [rows_also_in(own, theirs) for theirs in digests]
    if not spec.settings.allow_overlap:
        for source, theirs, rows in zip(sources, digests, shared, strict=True):
            refuse_shared(rows, own, theirs, target=spec.pool, source=source.pool_id)
    held_out, rest = hold_out(sources, digests, spec.settings)
    check_sources(rest, embeddings, spec.settings)
    return Extrapolation(
        sources=sources,
        targets=embeddings,
        tried=_try(job, spec, rest, sources[-1], held_out),
        held_out=len(held_out),
        shared=len(np.unique(np.concatenate(shared))),
        together=spec.shared_rows.together,
    )


def _try(
    job: Job, spec: ExtrapolatedScoreStage, rest: list[Source], last: Source, held_out: npt.NDArray[np.int64]
) -> list[Trial]:
    """Every combination of the settings, on the held-out images."""
    from robustprune.scores.extrapolation.choice import Found, merge, trials
    from robustprune.scores.extrapolation.sources import chosen

    settings, numbers = spec.settings, range(len(rest))
    searches = {
        (metric, number): Search(job, rest[number], metric, max(settings.k))
        for metric in settings.metric
        for number in numbers
    }

    def search(start: int, stop: int) -> Columns:
        targets = last.embeddings[held_out[start:stop]]
        found = {key: search.of(targets) for key, search in searches.items()}
        return {
            f"{name}-{metric}-{number}": values
            for (metric, number), part in found.items()
            for name, values in vars(part).items()
        }

    together = spec.shared_rows.together
    columns = collect(
        compute_rows(job, len(held_out), search, what="choosing the settings", batch_size=together, name="held-out")
    )
    found = {
        (metric, name): merge(
            [
                Found(columns[f"distance-{metric}-{number}"], columns[f"score-{metric}-{number}"])
                for number in chosen(numbers, name)
            ]
        )
        for metric in settings.metric
        for name in settings.sources
    }
    constant = float(rest[-1].scores[rest[-1].rows].mean(dtype=np.float64))
    return list(trials(found, last.scores[held_out], settings, constant=constant))


def _settings(trial: Trial) -> dict[str, Any]:
    return {"sources": trial.sources, "metric": trial.metric, "k": trial.k, "weighting": trial.weighting}


def _write_grid(job: Job, tried: Sequence[Trial], *, images: int) -> None:
    """Write the combinations that were tried, a line each, as in Figure 1 of Nieth et al. (2024)."""
    import pandas as pd

    lines = [
        {**_settings(trial), "choosing_mae": trial.choosing_mae, **asdict(trial.quality), "images": images // 2}
        for trial in tried
    ]
    with replacing(job.partial / GRID_FILE) as temporary:
        pd.DataFrame(lines).to_csv(temporary, index=False)
    job.publish(GRID_FILE)
