"""The stage that turns scores into a manifest."""

from typing import Any

import numpy as np
import pandas as pd

from robustprune.errors import UserError
from robustprune.job import Job
from robustprune.pools.format import Pool, open_pool
from robustprune.pruning.manifest import MANIFEST_FILE, write_manifest
from robustprune.pruning.radii import RADIUS_RULES
from robustprune.pruning.strategies import choose
from robustprune.scores.files import read_score
from robustprune.specs import ManifestSpec


def run(job: Job, spec: ManifestSpec) -> dict[str, Any]:
    """Choose which images of all pools together are kept, and write the manifest.

    Returns:
        images in all, kept and dropped, in total, by pool and by class, and how many have a negative radius.

    Raises:
        UserError: when a store is damaged, belongs to another pool, or lacks a score.
    """
    pools = {pool_id: open_pool(job.upstream("pools", pool_id)) for pool_id in spec.pools}
    candidates = pd.concat(
        [_candidates(job, spec, pools, number) for number in range(len(spec.pools))], ignore_index=True
    )
    scores = candidates["score"].to_numpy(np.float32)
    try:
        keep = choose(spec.strategy, scores, ratio=spec.ratio, seed=spec.seed)
    except ValueError as error:
        raise UserError(f"{', '.join(spec.scores)}: {error}; score the pool again") from None
    candidates["epsilon"] = RADIUS_RULES[spec.radius](candidates.pop("margin").to_numpy(), float(spec.epsilon))
    facts = _facts(candidates, keep)
    metadata = {"spec": spec.model_dump(mode="json"), "facts": facts}
    write_manifest(job.partial / MANIFEST_FILE, candidates[keep], pools=pools, facts=metadata)
    job.publish(MANIFEST_FILE)
    return facts


def _candidates(job: Job, spec: ManifestSpec, pools: dict[str, Pool], number: int) -> pd.DataFrame:
    """Every image of a pool that may be trained on; the validation images of the real pool, the first, may not."""
    pool_id = spec.pools[number]
    pool = pools[pool_id]
    scores, margins = (_score(job, ids, pool, number) for ids in (spec.scores, spec.margins))
    first = spec.validation_images if number == 0 else 0
    rows = np.arange(min(first, len(pool)), len(pool))
    return pd.DataFrame(
        {
            "pool": pool_id,
            "index": rows,
            "label": pool.labels[rows],
            "score": scores[rows],
            "margin": margins[rows],
        }
    )


def _score(job: Job, scores: tuple[str, ...], pool: Pool, number: int) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """(N,) float32: the score of each image of a pool, 0 where none is needed."""
    if not scores:
        return np.zeros(len(pool), dtype=np.float32)
    values, _ = read_score(job.upstream("scores", scores[number]), pool_digest=pool.info.digest)
    return values


def _facts(candidates: pd.DataFrame, keep: "np.ndarray[Any, np.dtype[np.bool_]]") -> dict[str, Any]:
    kept, dropped = candidates[keep], candidates[~keep]
    return {
        "images": len(candidates),
        "kept": len(kept),
        "dropped": len(dropped),
        "kept_by_pool": _counts(kept["pool"]),
        "dropped_by_pool": _counts(dropped["pool"]),
        "kept_by_class": _counts(kept["label"]),
        "dropped_by_class": _counts(dropped["label"]),
        "kept_with_negative_radius": int((kept["epsilon"] < 0).sum()),
    }


def _counts(column: "pd.Series[Any]") -> dict[str, int]:
    return {str(value): int(count) for value, count in column.value_counts().sort_index().items()}
