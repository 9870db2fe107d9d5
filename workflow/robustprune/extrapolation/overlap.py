"""Images that two pools share, found by the digests of their pixels."""

import numpy as np
import numpy.typing as npt

from robustprune.errors import UserError
from robustprune.pools.format import Digests

DEFINITION = 1

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
