"""Which images are kept: a strategy drops images from one end of a ranking, or from two.

``settings.pruning.ENDS`` says which ends each strategy drops from; here is how an end ranks the images. To add a
strategy, add its name there; to add an end, add its ranking to ``_ranking``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from robustprune.core.errors import UserError
from robustprune.core.randomness import derive_seed
from robustprune.pruning.candidates import Candidates, Members, Positions, positions_of, take
from robustprune.pruning.settings import ENDS, Among, DropBeyond, DropShare, End, Per, Strategy

DEFINITION = {"pruning.strategies": 3}

Amount = DropShare | DropBeyond | Mapping[str, int]
"""How many images are dropped: a share, those beyond a score, or that many of each group, by its name."""

Ranking = npt.NDArray[np.float32] | npt.NDArray[np.uint64]
"""(M,): the image with the lowest value is dropped first."""


def choose(
    images: Candidates,
    *,
    strategy: Strategy,
    drop: Amount,
    per: Per,
    seed: int,
    among: Among = "all",
) -> Positions:
    """The positions of the images that are kept, ascending; each once, but where it is drawn with replacement.

    Shares are rounded to the nearest image. At a threshold, the easy, high or low end drops the scores beyond it, the
    difficult end also those at it (PUMA: PE is CD < 0.02, PD is CD = 1). Which of several images with the same score
    goes is drawn by ``seed``; the choice depends neither on the order nor on the number of the other candidates with
    another score.

    Args:
        images: what is chosen from.
        strategy: a name in ``ENDS``.
        drop: how many are dropped.
        per: among which images that many are dropped.
        seed: seed of chance and ties.
        among: which images may be dropped; the others are kept.

    Raises:
        UserError: when more images of a group are to be dropped than may be.
    """
    within = images.among(among)
    spared = (np.arange(within.start), np.arange(within.stop, len(images)))
    kept: list[Positions] = [positions for positions in spared if len(positions)]
    groups = {name: (members, len(images.labels[members])) for name, members in images.groups(per, within)}
    if isinstance(drop, Mapping):
        _refuse_too_many(drop, {name: total for name, (_, total) in groups.items()}, per, among)
    for name, (members, total) in groups.items():
        counts = _counts(drop, name, total, len(ENDS[strategy]))
        if strategy == "random_with_replacement":
            kept.append(_draw(images, members, total - sum(counts), derive_seed(seed, "replacement", name)))
        else:
            kept.append(_keep(images, members, strategy, drop, counts, seed))
    if len(kept) == 1:
        return kept[0]
    return np.sort(np.concatenate(kept), kind="stable")  # merges ascending runs in one pass


def _refuse_too_many(drop: Mapping[str, int], there: Mapping[str, int], per: Per, among: Among) -> None:
    for name, count in drop.items():
        if count > (total := there.get(name, 0)):
            raise UserError(
                f"same_size_as: {count:,} images are to be dropped of group {name!r} (per = {per}), as the other "
                f"manifest does, but with among = {among} there are only {total:,}; choose a row that drops fewer"
            )


def _counts(drop: Amount, name: str, total: int, ends: int) -> list[int]:
    """Return how many of a group's images are dropped from each end; meaningless where a threshold says which."""
    if isinstance(drop, Mapping):
        return _even_parts(drop.get(name, 0), ends)
    return _shares(total, drop.shares) if isinstance(drop, DropShare) else [0] * ends


def _keep(
    images: Candidates, members: Members, strategy: Strategy, drop: Amount, counts: list[int], seed: int
) -> Positions:
    """Return what is kept of a group."""
    for number, end in enumerate(ENDS[strategy]):
        ranking = _ranking(images, members, end, seed)
        if isinstance(drop, DropBeyond):
            lowest = _beyond(images, ranking, end, float(drop.thresholds[number]))
        else:
            lowest = _lowest(ranking, counts[number], images, members, seed)
        members = take(members, np.flatnonzero(~lowest))
    return positions_of(members)


def _shares(total: int, shares: tuple[float, ...]) -> list[int]:
    """Return how many of ``total`` each share is; their sum is the sum of the shares, rounded."""
    return _differences([round(share * total) for share in accumulate(shares)])


def _even_parts(number: int, parts: int) -> list[int]:
    return _differences([number * (part + 1) // parts for part in range(parts)])


def _differences(stops: list[int]) -> list[int]:
    return [stop - start for start, stop in zip([0, *stops], stops, strict=False)]


def _ranking(images: Candidates, members: Members, end: End, seed: int) -> Ranking:
    if end == "chance":
        return images.keys(positions_of(members), seed)
    if images.score is None:
        raise ValueError(f"to drop from the {end} end, the images need a score")
    score = images.score[members]
    if end == "middle":
        finite = score[np.isfinite(score)]
        mean = np.float32(finite.sum(dtype=np.float64) / max(len(finite), 1))
        return np.asarray(np.abs(score - mean))
    return -score if _sign(images, end) < 0 else score


def _sign(images: Candidates, end: End) -> np.float32:
    """-1 where an end begins with the highest scores, else 1."""
    opposite = {"high": "low", "low": "high"}
    side = {"easy": images.easy, "difficult": opposite[images.easy]}.get(end, end)
    return np.float32(-1 if side == "high" else 1)


def _beyond(images: Candidates, ranking: Ranking, end: End, threshold: float) -> npt.NDArray[np.bool_]:
    limit = _sign(images, end) * np.float32(threshold)
    return np.asarray(ranking <= limit if end == "difficult" else ranking < limit)


def _lowest(ranking: Ranking, count: int, images: Candidates, members: Members, seed: int) -> npt.NDArray[np.bool_]:
    """(M,) mask of the ``count`` images that rank lowest; among equals, those with the lowest keys."""
    if count == 0:
        return np.zeros(len(ranking), dtype=bool)
    border = np.partition(ranking, count - 1)[count - 1]
    lowest = np.asarray(ranking < border)
    equal = np.flatnonzero(ranking == border)
    missing = count - int(np.count_nonzero(lowest))
    keys = images.keys(take(members, equal), seed)
    lowest[equal[np.argpartition(keys, missing - 1)[:missing]]] = True
    return lowest


def _draw(images: Candidates, members: Members, count: int, seed: int) -> Positions:
    """``count`` of the images, each drawn from all of them, so that some come twice and others not at all."""
    positions = positions_of(members)
    by_key = positions[np.argsort(images.keys(positions, seed))]
    return np.sort(by_key[np.random.default_rng(seed).integers(len(positions), size=count)])
