"""The stage that turns scores into a manifest."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.images.pool import Pool, open_pool
from robustprune.pruning.candidates import Candidates, Positions
from robustprune.pruning.facts import GROUP_ROWS, Rows, count_kept
from robustprune.pruning.manifest import MANIFEST_FILE, read_metadata, write_manifest
from robustprune.pruning.radii import RADIUS_RULES, Measured
from robustprune.pruning.settings import DropAsMany
from robustprune.pruning.specs import ManifestStage
from robustprune.pruning.strategies import Amount, choose
from robustprune.scores.files import read_score

Easy = Literal["high", "low"]
Values = npt.NDArray[np.float32]


def run(job: Job, spec: ManifestStage) -> dict[str, Any]:
    """Choose which images of all pools together are kept, and write the manifest.

    Returns:
        images in all, kept and dropped, in total, by pool and by class, their shares, and how the radii spread.

    Raises:
        UserError: when a store is damaged, belongs to another pool, or lacks a score.
    """
    pools = {pool_id: open_pool(job.upstream("pools", pool_id)) for pool_id in spec.pools}
    images = _candidates(job, spec, pools)
    kept = choose(
        images,
        strategy=spec.strategy,
        drop=_amount(job, spec),
        per=spec.per,
        seed=spec.seed,
        among=spec.among,
    )
    margin = images.score if spec.margins == spec.scores else _read(job, spec.margins, pools, images)[0]
    difficulty, _ = _read(job, spec.difficulties, pools, images)

    def groups() -> Iterator[Rows]:  # in pieces, so that little beside the scores has to be in memory
        for start in range(0, len(kept), GROUP_ROWS):
            yield _rows(spec, images, kept[start : start + GROUP_ROWS], margin, difficulty)

    facts = count_kept(images, groups(), float(spec.radius.epsilon))
    write_manifest(job.partial / MANIFEST_FILE, groups(), pools=pools, spec=spec.model_dump(mode="json"), facts=facts)
    job.publish(MANIFEST_FILE)
    return facts.model_dump(mode="json")


def _rows(
    spec: ManifestStage, images: Candidates, kept: Positions, margin: Values | None, difficulty: Values | None
) -> Rows:
    none = np.empty(0, np.float32)
    measured = Measured(len(kept), *(none if values is None else values[kept] for values in (margin, difficulty)))
    return Rows(
        pool=images.pool_numbers(kept),
        index=images.indices(kept),
        label=images.labels[kept],
        score=None if images.score is None else images.score[kept],
        epsilon=RADIUS_RULES[spec.radius.rule](measured, spec.radius),
    )


def _candidates(job: Job, spec: ManifestStage, pools: dict[str, Pool]) -> Candidates:
    """Every image that may be trained on; the validation images of the real pool, the first, may not."""
    opened = list(pools.values())
    first = (min(spec.validation_images, len(opened[0])), *(0 for _ in opened[1:]))
    images = Candidates(
        pools=tuple(pools),
        first=first,
        counts=tuple(len(pool) - skipped for pool, skipped in zip(opened, first, strict=True)),
        labels=np.concatenate([pool.labels[skipped:] for pool, skipped in zip(opened, first, strict=True)]),
    )
    score, easy = _read(job, spec.scores, pools, images)
    return images if score is None else images.scored(score, easy)


def _read(job: Job, stages: tuple[str, ...], pools: dict[str, Pool], images: Candidates) -> tuple[Values | None, Easy]:
    """(N,) the score of each candidate, None where it is not needed, and which end is easy.

    Raises:
        UserError: when a score was not computed, or the pools' scores do not mean the same.
    """
    parts, easy = [], set()
    for stage, first, (_, pool) in zip(stages, images.first, pools.items(), strict=bool(stages)):
        values, meaning = read_score(job.upstream("scores", stage), pool_digest=pool.info.digest)
        if np.isnan(values[first:].min(initial=np.inf)):  # which is NaN where any of them is
            missing = int(np.isnan(values[first:]).sum())
            raise UserError(f"{stage}: {missing} of {len(values)} scores are NaN (not computed); score the pool again")
        parts.append(values[first:])
        easy.add(meaning.easy)
    if len(easy) > 1:
        raise UserError(f"{' and '.join(stages)} do not agree which end of the score is easy; score the pools again")
    return (np.concatenate(parts), easy.pop()) if parts else (None, "high")


def _amount(job: Job, spec: ManifestStage) -> Amount:
    """How many images are dropped: what the spec says, or as many of each group as another manifest drops."""
    if not isinstance(spec.drop, DropAsMany):
        return spec.drop
    facts = read_metadata(job.upstream("manifests", spec.drop.manifest) / MANIFEST_FILE).facts
    if spec.per == "all":
        return {"all": facts.dropped}
    return facts.dropped_by_class if spec.per == "class" else facts.dropped_by_pool
