"""The stage that turns scores into a manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.stage import PoolId, ScoreId, Stage
from robustprune.pruning.radius import RADIUS_RULES, Measured, RadiusSettings
from robustprune.pruning.settings import Among, AnyAmount, DropAsMany, DropShare, Per, Strategy

if TYPE_CHECKING:
    from robustprune.images.pool import Pool
    from robustprune.planning.plan import Plan
    from robustprune.pruning.candidates import Candidates, Positions
    from robustprune.pruning.facts import Rows
    from robustprune.pruning.strategies import Amount


Easy = Literal["high", "low"]

Values = npt.NDArray[np.float32]


DEFINITION = {"pruning.facts": 1, "pruning.manifest": 2}


ROW_BYTES = 8 + 2 + 4 + 4  # index, label, score, epsilon


class ManifestStage(Stage):
    """Which rows of which pools are kept, and with what radius each is attacked.

    ``scores`` (what the strategy goes by), ``margins`` and ``difficulties`` (what the radius follows) have an id for
    each of the pools, or none where they are not needed.
    """

    sentence = "which images are kept, and how hard each is attacked in training"
    uses_device = False
    kind: Literal["manifests"] = "manifests"
    pools: tuple[PoolId, ...]
    scores: tuple[ScoreId, ...]
    margins: tuple[ScoreId, ...]
    difficulties: tuple[ScoreId, ...]
    strategy: Strategy
    drop: AnyAmount
    per: Per
    among: Among = "all"
    radius: RadiusSettings
    validation_images: int = Field(ge=0)
    seed: int = Field(ge=0)

    @property
    def slug(self) -> str:
        return self.strategy.replace("_", "-")

    @property
    def share_of_real_kept(self) -> float:
        """Share of the real images that are kept, 1 where only synthetic ones may go; as of all where all may."""
        if isinstance(self.drop, DropShare) and self.among in ("all", "real"):
            return 1 - sum(self.drop.shares)
        return 1.0

    def bytes_left(self, plan: Plan, parameters: Mapping[str, int]) -> int:
        """Return the size of the manifest's columns."""
        return sum(plan.count(pool) for pool in self.pools) * ROW_BYTES

    def run(self, job: Job) -> dict[str, Any]:
        """Choose which images of all pools together are kept, and write the manifest.

        Returns:
            images in all, kept and dropped, in total, by pool and by class, their shares, and how the radii spread.

        Raises:
            UserError: when a store is damaged, belongs to another pool, or lacks a score.
        """
        from robustprune.images.pool import open_pool
        from robustprune.pruning.facts import GROUP_ROWS, count_kept
        from robustprune.pruning.manifest import MANIFEST_FILE, write_manifest
        from robustprune.pruning.strategies import choose

        pools = {pool_id: open_pool(job.upstream("pools", pool_id)) for pool_id in self.pools}
        images = _candidates(job, self, pools)
        kept = choose(
            images,
            strategy=self.strategy,
            drop=_amount(job, self),
            per=self.per,
            seed=self.seed,
            among=self.among,
        )
        margin = images.score if self.margins == self.scores else _read(job, self.margins, pools, images)[0]
        difficulty, _ = _read(job, self.difficulties, pools, images)

        def groups() -> Iterator[Rows]:  # in pieces, so that little beside the scores has to be in memory
            for start in range(0, len(kept), GROUP_ROWS):
                yield _rows(self, images, kept[start : start + GROUP_ROWS], margin, difficulty)

        facts = count_kept(images, groups(), float(self.radius.epsilon))
        write_manifest(
            job.partial / MANIFEST_FILE, groups(), pools=pools, spec=self.model_dump(mode="json"), facts=facts
        )
        job.publish(MANIFEST_FILE)
        return facts.model_dump(mode="json")


def _rows(
    spec: ManifestStage, images: Candidates, kept: Positions, margin: Values | None, difficulty: Values | None
) -> Rows:
    from robustprune.pruning.facts import Rows

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
    from robustprune.pruning.candidates import Candidates

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
    from robustprune.scores.score_files import read_score

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
    """Return how many images are dropped: what the spec says, or as many of each group as another manifest drops."""
    from robustprune.pruning.manifest import MANIFEST_FILE, read_metadata

    if not isinstance(spec.drop, DropAsMany):
        return spec.drop
    facts = read_metadata(job.upstream("manifests", spec.drop.manifest) / MANIFEST_FILE).facts
    if spec.per == "all":
        return {"all": facts.dropped}
    return facts.dropped_by_class if spec.per == "class" else facts.dropped_by_pool
