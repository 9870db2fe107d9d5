"""Images that two pools share, found by 128-bit digests of their pixels."""

import hashlib

import numpy as np
import numpy.typing as npt

from robustprune.errors import UserError
from robustprune.pools.format import Images

DEFINITION = 1

DIGEST_BYTES = 16
SHOWN = 5  # pairs named in a message

Digests = npt.NDArray[np.bytes_]  # (N,) of 16 bytes


def image_digests(images: Images) -> Digests:
    """BLAKE2b of each image's pixels. One image is read at a time.

    Args:
        images: (N, C, H, W) uint8.

    Returns:
        (N,) of dtype S16, equal where all pixels are.
    """
    digests = np.empty(len(images), dtype=f"S{DIGEST_BYTES}")
    for row, image in enumerate(images):
        digests[row] = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=DIGEST_BYTES).digest()
    return digests


def shared_rows(targets: Digests, sources: Digests) -> npt.NDArray[np.int64]:
    """The rows of ``targets`` whose image is among ``sources``, ascending. By sorting: N log N."""
    return np.flatnonzero(np.isin(targets, sources))


def refuse_shared(targets: Digests, sources: Digests, *, target: str, source: str) -> None:
    """Raise UserError naming the number and first ids of the images that are in both pools, if there are any."""
    rows = shared_rows(targets, sources)
    if not len(rows):
        return
    pairs = [(int(row), int(np.flatnonzero(sources == targets[row])[0])) for row in rows[:SHOWN]]
    named = ", ".join(f"{row} (there {other})" for row, other in pairs)
    raise UserError(
        f"{len(rows)} of the {len(targets)} images of {target}, to which scores are extrapolated, are in {source}, "
        f"too, which is scored directly; first ids: {named}. Scores would be copied, not extrapolated: take disjoint "
        "pools, or set extrapolation.neighbours.allow_overlap: true"
    )
