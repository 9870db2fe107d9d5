"""The batch of each step, on the device when the step begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from robustprune.training.trainset import KeptImages

RESIDENT_SHARE = 0.5  # of a GPU's free memory that the images may take; the rest is for the training
DEFINITION = {"training.batches": 1}

COPIED_AT_ONCE = 2**28  # bytes


class Batch(NamedTuple):
    """Images and labels of one step.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
        epsilon: (N,) float32, signed radius: negative for anti-adversarial.
    """

    images: Tensor
    labels: Tensor
    epsilon: Tensor


class ImageSource(Protocol):
    """The kept images of one pool."""

    def take(self, positions: Tensor) -> Batch:
        """The images at ``positions`` (int64, on the CPU, into the kept rows)."""


class MappedImages:
    """Kept images read from the memory-mapped pool: what is in memory is what the system's cache holds.

    Args:
        kept: the kept rows.
        device: where batches go.
    """

    def __init__(self, kept: KeptImages, device: torch.device) -> None:
        self._kept, self._device = kept, device

    def take(self, positions: Tensor) -> Batch:
        """Read, and copied by the GPU on its own."""
        tensors = [torch.from_numpy(array) for array in self._kept.read(positions.numpy())]
        if self._device.type == "cuda":
            tensors = [tensor.pin_memory() for tensor in tensors]
        return Batch(*(tensor.to(self._device, non_blocking=True) for tensor in tensors))


class ResidentImages:
    """Kept images that lie on the device as they are in the pool, uint8.

    Args:
        kept: the kept rows; copied part by part.
        device: where they go.
    """

    def __init__(self, kept: KeptImages, device: torch.device) -> None:
        shape = (len(kept), *kept.pool.info.image_shape)
        self._device = device
        self._images = torch.empty(shape, dtype=torch.uint8, device=device)
        length = max(1, COPIED_AT_ONCE // math.prod(shape[1:]))
        for start in range(0, len(kept), length):
            rows = kept.rows[start : start + length]
            self._images[start : start + len(rows)] = torch.from_numpy(kept.pool.images[rows])
        self._labels = torch.from_numpy(kept.pool.labels[kept.rows]).to(device)
        self._epsilon = torch.from_numpy(kept.epsilon).to(device)

    def take(self, positions: Tensor) -> Batch:
        """Gathered on the device; only the positions travel."""
        chosen = positions.to(self._device, non_blocking=True)
        return Batch(self._images[chosen], self._labels[chosen].long(), self._epsilon[chosen])


def fit_on(device: torch.device, kept: Sequence[KeptImages]) -> bool:
    """Return True if the images should lie on the device: on a GPU with room for them."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(images.nbytes for images in kept) <= RESIDENT_SHARE * free


@dataclass
class Batches:
    """Batches by step; while a step is computed, a thread reads the next one's images, unless they are resident.

    Attributes:
        positions: the positions of a step's images in each source.
        total: number of steps.
        sources: the kept images of each pool.
        ahead: whether to read ahead.
    """

    positions: Callable[[int], Sequence[Tensor]]
    total: int
    sources: Sequence[ImageSource]
    ahead: bool

    def __post_init__(self) -> None:
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._next: tuple[int, Future[Batch]] | None = None

    def at(self, step: int) -> Batch:
        """The batch of a step: the pools' images one after the other."""
        if not self.ahead:
            return self._take(step)
        batch = self._next[1].result() if self._next is not None and self._next[0] == step else self._take(step)
        if step + 1 < self.total:
            self._next = (step + 1, self._reader.submit(self._take, step + 1))
        return batch

    def _take(self, step: int) -> Batch:
        parts = [source.take(chosen) for source, chosen in zip(self.sources, self.positions(step), strict=True)]
        return Batch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def open_batches(
    kept: Sequence[KeptImages], device: torch.device, positions: Callable[[int], Sequence[Tensor]], *, total: int
) -> Batches:
    """Batches of the kept images: resident where they fit, else read ahead of the step."""
    if fit_on(device, kept):
        return Batches(positions, total, [ResidentImages(images, device) for images in kept], ahead=False)
    return Batches(positions, total, [MappedImages(images, device) for images in kept], ahead=True)
