"""The stage that turns scores into a manifest."""

from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from robustprune.errors import UserError
from robustprune.job import Job
from robustprune.pools.format import Pool, open_pool
from robustprune.pruning.candidates import Candidates, Positions
from robustprune.pruning.manifest import MANIFEST_FILE, Rows, read_metadata, write_manifest
from robustprune.pruning.radii import RADIUS_RULES, Measured
from robustprune.pruning.strategies import choose
from robustprune.scores.files import read_score
from robustprune.settings import DropAsMany
from robustprune.specs import ManifestSpec

HISTOGRAM_BINS = 16  # of the radii, from -epsilon to epsilon

Easy = Literal["high", "low"]
Values = npt.NDArray[np.float32]


def run(job: Job, spec: ManifestSpec) -> dict[str, Any]:
    """Choose which images of all pools together are kept, and write the manifest.

    Returns:
        images in all, kept and dropped, in total, by pool and by class, their shares, and how the radii spread.

    Raises:
        UserError: when a store is damaged, belongs to another pool, or lacks a score.
    """
    pools = {pool_id: open_pool(job.upstream("pools", pool_id)) for pool_id in spec.pools}
    images = _candidates(job, spec, pools)
    kept = choose(
        images, strategy=spec.strategy, drop=spec.drop, per=spec.per, seed=spec.seed, dropped=_as_many(job, spec)
    )
    margin, difficulty = (_read(job, ids, pools, images)[0] for ids in (spec.margins, spec.difficulties))
    measured = Measured(len(kept), *(np.empty(0, np.float32) if v is None else v[kept] for v in (margin, difficulty)))
    rows = Rows(
        pool=images.pool_numbers(kept),
        index=images.indices(kept),
        label=images.labels[kept],
        score=None if images.score is None else images.score[kept],
        epsilon=RADIUS_RULES[spec.radius.rule](measured, spec.radius),
    )
    facts = _facts(spec, images, rows)
    metadata = {"spec": spec.model_dump(mode="json"), "facts": facts}
    write_manifest(job.partial / MANIFEST_FILE, rows, pools=pools, metadata=metadata)
    job.publish(MANIFEST_FILE)
    return facts


def _candidates(job: Job, spec: ManifestSpec, pools: dict[str, Pool]) -> Candidates:
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
        missing = int(np.isnan(values[first:]).sum())
        if missing:
            raise UserError(f"{stage}: {missing} of {len(values)} scores are NaN (not computed); score the pool again")
        parts.append(values[first:])
        easy.add(meaning.easy)
    if len(easy) > 1:
        raise UserError(f"{' and '.join(stages)} do not agree which end of the score is easy; score the pools again")
    return (np.concatenate(parts), easy.pop()) if parts else (None, "high")


def _as_many(job: Job, spec: ManifestSpec) -> dict[str, int]:
    """How many images another manifest drops, of each group; empty where none is followed."""
    if not isinstance(spec.drop, DropAsMany):
        return {}
    facts = read_metadata(job.upstream("manifests", spec.drop.manifest) / MANIFEST_FILE)["facts"]
    if spec.per == "all":
        return {"all": facts["dropped"]}
    return cast(dict[str, int], facts["dropped_by_class" if spec.per == "class" else "dropped_by_pool"])


def _facts(spec: ManifestSpec, images: Candidates, rows: Rows) -> dict[str, Any]:
    kept = len(rows.index)
    classes = int(images.labels.max()) + 1
    all_by_class, kept_by_class = (np.bincount(labels, minlength=classes) for labels in (images.labels, rows.label))
    kept_by_pool = np.bincount(rows.pool, minlength=len(images.pools))
    epsilon = float(spec.radius.epsilon)
    histogram, edges = np.histogram(rows.epsilon, HISTOGRAM_BINS, (-epsilon, epsilon))
    return {
        "images": len(images),
        "kept": kept,
        "dropped": len(images) - kept,
        "share_kept": kept / len(images),
        "share_dropped": 1 - kept / len(images),
        "kept_by_pool": _named(images.pools, kept_by_pool),
        "dropped_by_pool": _named(images.pools, np.array(images.counts) - kept_by_pool),
        "kept_by_class": _named(range(classes), kept_by_class),
        "dropped_by_class": _named(range(classes), all_by_class - kept_by_class),
        "kept_with_negative_radius": int((rows.epsilon < 0).sum()),
        "epsilon_histogram": {"edges": [round(float(edge), 6) for edge in edges], "counts": histogram.tolist()},
    }


def _named(names: "tuple[str, ...] | range", counts: Positions) -> dict[str, int]:
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}
