"""Where a manifest cuts: the score beyond which all images are dropped."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robustprune.core.settings import Settings
from robustprune.pruning.settings import Among, Per

DEFINITION = {"gallery.cuts": 2}

Mask = npt.NDArray[np.bool_]


class Cut(Settings):
    """A score beyond which the images of a group are dropped.

    Attributes:
        group: ``all``, a class's number, or a pool's id.
        at: the score nearest to the kept ones that is dropped; None where no finite one is.
        partly: True if some images of that very score are kept.
    """

    group: str
    side: Literal["above", "below"]
    at: float | None
    partly: bool = False


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
    """Return where each group's dropped images begin; nothing where they lie among the kept ones.

    Args:
        scores: (N,) of all pools, one after the other, like the other arrays.
        dropped: the images that a manifest drops.
        candidates: those that it could have dropped.
        labels: classes.
        pools: the slice of each pool; the real images are those of the first.
        per: among which images a share was taken.
        among: which images could be dropped.
        names: the pools' ids.
    """
    allowed = candidates.copy()
    if among == "real":
        allowed[pools[0].stop :] = False
    elif among == "synthetic":
        allowed[pools[0]] = False
    return [
        cut
        for name, members in _groups(labels, pools, per, names)
        for cut in _sides(name, scores[members][allowed[members]], dropped[members][allowed[members]])
    ]


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


def _sides(group: str, scores: npt.NDArray[np.float32], dropped: Mask) -> Iterator[Cut]:
    if dropped.all() or not dropped.any():
        return
    kept, gone = scores[~dropped], scores[dropped]
    above, below = gone[gone >= kept.max()], gone[gone <= kept.min()]
    if len(above) + len(below) != len(gone):
        return
    if len(above):
        yield Cut(group=group, side="above", at=_finite(above.min()), partly=bool(above.min() == kept.max()))
    if len(below):
        yield Cut(group=group, side="below", at=_finite(below.max()), partly=bool(below.max() == kept.min()))


def _finite(value: np.float32) -> float | None:
    return float(value) if np.isfinite(value) else None
