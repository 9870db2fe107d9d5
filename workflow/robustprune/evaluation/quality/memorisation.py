"""How near each image is to the nearest one that a generator learnt from: is it a copy?

Distances are Euclidean, of pixels in [0, 1]. Images with more than 32 pixels a side are averaged down to 32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from robustprune.core.files import write_text
from robustprune.core.rows import ranges
from robustprune.images.growing import GrowingArray
from robustprune.scores.neighbours import Points, Space, nearest

if TYPE_CHECKING:
    from robustprune.core.job import Job
    from robustprune.images.images_by_row import PoolImages
    from robustprune.images.pool import Pool

DEFINITION = {"quality.memorisation": 1}

LARGEST_SIDE = 32  # pixels
PIXELS_FILE, STATE_FILE = "pixels.npy", "pixels.txt"  # the second: how many rows the first has
Pixels = npt.NDArray[np.uint8]  # (N, D)


class RealNeighbours:
    """Finds the nearest real image.

    Args:
        job: the running stage; the pixels are put into its ``partial/``, where they do not lie in one array already.
        train: the real images.
    """

    def __init__(self, job: Job, train: Pool) -> None:
        self._device = job.device
        self._points = Points(_flat_pixels(job, train), np.arange(len(train)))
        self._space = Space("euclidean", self._points)

    def of(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """(N,) distance and (N,) row of the real image nearest to each of (N, C, H, W) images."""
        pixels = _small(images)
        targets = torch.from_numpy(pixels).to(self._device).to(torch.float32)
        rows = nearest(targets, self._points, self._space, k=1).row[:, 0]
        # The search works with rounded inner products; the distance of a copy shall be 0.
        difference = pixels.astype(np.float64) - self._points.embeddings[rows]
        return (np.sqrt(np.square(difference).sum(1)) / 255).astype(np.float32), rows


def _flat_pixels(job: Job, pool: Pool) -> Pixels:
    """All images, a line each: the pool's own array, or one that is written."""
    images = pool.images
    if isinstance(images, np.ndarray) and max(images.shape[2:]) <= LARGEST_SIDE:
        flat: Pixels = images.reshape(len(images), -1)
        return flat
    return _written(job, images)


def _written(job: Job, images: PoolImages) -> Pixels:
    file, state = job.partial / PIXELS_FILE, job.partial / STATE_FILE
    done = int(state.read_text()) if state.is_file() else 0
    shape = (len(images), _small(images[:1]).shape[1])
    progress = job.progress("reading training images", total=len(images), unit="images", done=done)
    with GrowingArray(file, shape, np.uint8, rows=done) as pixels, progress, job.checkpoints:

        def save() -> None:
            pixels.sync()
            write_text(state, str(done))

        for start, stop in ranges(done, len(images), job.execution.batch_size):
            pixels.append(_small(images[start:stop]))
            done = stop
            progress.advance(stop - start)
            job.checkpoints.tick(save)
        save()
    mapped: Pixels = np.load(file, mmap_mode="r")
    return mapped


def _small(images: npt.NDArray[np.uint8]) -> Pixels:
    """(N, C, H, W) to (N, D), with at most 32 pixels a side."""
    height, width = images.shape[2:]
    if max(height, width) > LARGEST_SIDE:
        size = (min(height, LARGEST_SIDE), min(width, LARGEST_SIDE))
        averaged: Tensor = F.adaptive_avg_pool2d(torch.from_numpy(np.array(images)).float(), size)
        images = averaged.round().to(torch.uint8).numpy()
    return images.reshape(len(images), -1)
