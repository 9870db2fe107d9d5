"""Where a manifest cuts: the score beyond which everything is dropped."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robustprune.settings import Among, Per, Settings

DEFINITION = 1

Mask = npt.NDArray[np.bool_]


class Cut(Settings):
    """Of a group of images those beyond a score are dropped.

    Attributes:
        group: ``all``, a class's number, or a pool's id.
        side: above or below which score.
        at: the score nearest to the kept ones that is dropped; None where no finite one is.
    """

    group: str
    side: Literal["above", "below"]
    at: float | None


def cuts(
    scores: npt.NDArray[np.float32],
    dropped: Mask,
    candidates: Mask,
    labels: npt.NDArray[np.integer[Any]],
    pools: list[slice],
    *,
    per: Per,
    among: Among,
    names: tuple[str, ...],
) -> list[Cut]:
    """Where the dropped images of each group begin; nothing for a group whose dropped images lie among the kept ones.

    Args:
        scores: (N,) of all pools, one after the other.
        dropped: (N,) whether a manifest drops an image.
        candidates: (N,) whether it could have.
        labels: (N,) classes.
        pools: where each pool is.
        per: among which images a share was taken.
        among: which images could be dropped; the real ones are those of the first pool.
        names: the pools' ids.
    """
    allowed = candidates.copy()
    if among == "real":
        allowed[pools[0].stop :] = False
    elif among == "synthetic":
        allowed[pools[0]] = False
    found = []
    for name, members in _groups(labels, pools, per, names):
        own = allowed[members]
        found += [
            Cut(group=name, side=side, at=at)
            for side, at in _sides(scores[members][own], dropped[members][own]).items()
        ]
    return found


def _groups(
    labels: npt.NDArray[np.integer[Any]], pools: list[slice], per: Per, names: tuple[str, ...]
) -> Iterator[tuple[str, Any]]:
    if per == "all":
        yield "all", slice(None)
    elif per == "source":
        yield from zip(names, pools, strict=True)
    else:
        order = np.argsort(labels, kind="stable")
        classes, starts = np.unique(labels[order], return_index=True)
        for label, members in zip(classes.tolist(), np.split(order, starts[1:]), strict=True):
            yield str(label), members


def _sides(scores: npt.NDArray[np.float32], dropped: Mask) -> dict[Literal["above", "below"], float | None]:
    """Of one group. Where images of one score are partly dropped, that score is the cut."""
    if dropped.all() or not dropped.any():
        return {}
    kept, gone = scores[~dropped], scores[dropped]
    above, below = gone[gone >= kept.max()], gone[gone <= kept.min()]
    if len(above) + len(below) != len(gone):
        return {}
    sides: dict[Literal["above", "below"], float | None] = {}
    if len(above):
        sides["above"] = _finite(above.min())
    if len(below):
        sides["below"] = _finite(below.max())
    return sides


def _finite(value: np.float32) -> float | None:
    return float(value) if np.isfinite(value) else None
