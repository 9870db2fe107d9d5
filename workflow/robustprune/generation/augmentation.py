"""EDM's augmentation, which does not leak: with each image goes a label that tells the network what was done to it.

When images are drawn the label is 0, so none comes out turned or scaled (Karras et al. 2022, appendix F.2, after
Karras et al. 2020, appendix B).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from robustprune.core.randomness import BatchNoise

DEFINITION = {"edm.augmentation": 2}

SCALE_STD = 0.2  # of the binary logarithm of a scale
ANISOTROPY_TURNED = 0.5  # probability that the axes of an anisotropic scale are turned
TRANSLATION_STD = 0.125  # in units of a side

# The low-pass filter of the wavelet sym6 (Daubechies 1992): it is orthogonal to its own shifts by 2, so that going to
# twice the resolution and back changes nothing.
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
OVERLAP = (len(SYM6) - 2) // 2  # fine pixels by which the filter reaches beyond a pair of them
CONTEXT = len(SYM6) // 4  # pixels beyond the image that count in its outermost ones
CENTRE = sum(k * tap for k, tap in enumerate(SYM6)) / math.sqrt(2) - (len(SYM6) - 1) / 2
"""Fine pixels by which the filter, which is not symmetric, moves an image; what turns it must turn about there."""


class Augmented(NamedTuple):
    """A batch after augmentation.

    Attributes:
        images: (N, C, H, W) float32.
        labels: (N, 9) float32, what was done to each; 0 is nothing.
    """

    images: Tensor
    labels: Tensor


class Geometry(NamedTuple):
    """Changes to each image after the flips, in this order; (N,) float32 each."""

    scale: Tensor  # binary logarithm, in units of SCALE_STD
    rotation: Tensor  # radians
    anisotropy: Tensor  # binary logarithm of the stretch along an axis and of the squeeze across it, as ``scale``
    axis: Tensor  # radians
    across: Tensor  # translation, in units of TRANSLATION_STD
    down: Tensor


def augment(images: Tensor, noise: BatchNoise, probability: float) -> Augmented:
    """Flip each image left to right by a fair coin, and do each other thing to it with a probability.

    These are a flip upside down (by a fair coin), a scale 2^(0.2 N(0, 1)), a rotation by any angle, a stretch by
    2^(0.2 N(0, 1)) and as much squeeze across it, and a translation by 0.125 N(0, 1) sides.

    Args:
        images: (N, C, H, W) float32, square ones where they are to be turned.
        noise: of this batch, on the images' device.
        probability: in [0, 1].
    """

    def sometimes(values: Tensor, chance: float = probability) -> Tensor:
        return torch.where(noise.uniform() < 2 * chance - 1, values, 0)

    def coin() -> Tensor:
        return (noise.uniform() < 0).to(images.dtype)

    mirrored, turned_over = coin(), sometimes(coin())
    across, down = sometimes(noise.normal(2).mT)  # (2, N): both or neither, as one decision
    geometry = Geometry(
        scale=sometimes(noise.normal()),
        rotation=sometimes(noise.uniform() * math.pi),
        anisotropy=sometimes(noise.normal()),
        axis=sometimes(noise.uniform() * math.pi, ANISOTROPY_TURNED),
        across=across,
        down=down,
    )
    flipped = _flip(_flip(images, mirrored, 3), turned_over, 2)
    labels = torch.stack([mirrored, turned_over, *_labels(geometry)], dim=1)
    return Augmented(resample(flipped, *inverse(geometry, images.shape)), labels)


def _labels(geometry: Geometry) -> tuple[Tensor, ...]:
    """(N,) each: angles as points of a circle, so that there is no jump where it closes."""
    return (
        geometry.scale,
        geometry.rotation.cos() - 1,
        geometry.rotation.sin(),
        geometry.anisotropy * geometry.axis.cos(),
        geometry.anisotropy * geometry.axis.sin(),
        geometry.across,
        geometry.down,
    )


def _flip(images: Tensor, which: Tensor, dimension: int) -> Tensor:
    return torch.where(which.view(-1, 1, 1, 1) > 0, images.flip(dimension), images)


def inverse(geometry: Geometry, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Return where a new image's points were in the old one: (N, 2, 2) and (N, 2), (x, y) pixels from the centre."""
    sides = geometry.across.new_tensor([shape[3], shape[2]])
    moved = torch.stack([geometry.across, geometry.down], dim=1) * TRANSLATION_STD * sides
    stretch, axis = geometry.anisotropy * SCALE_STD, _rotation(geometry.axis)
    unstretch = axis @ torch.diag_embed(torch.stack([-stretch, stretch], dim=1).exp2()) @ axis.mT
    matrix = (-geometry.scale * SCALE_STD).exp2()[:, None, None] * _rotation(geometry.rotation).mT @ unstretch
    return matrix, -(matrix @ moved[:, :, None])[:, :, 0]


def _rotation(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)


def resample(images: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Each image at the points ``matrix`` u + ``offset`` for its pixels u, which are counted from the centre.

    It is mirrored at its edges, brought to twice its resolution, interpolated there and brought back.

    Args:
        images: (N, C, H, W) float32.
        matrix: (N, 2, 2) float32.
        offset: (N, 2) float32, x and y in pixels.
    """
    count, channels, height, width = images.shape
    fine = _finer(F.pad(images, (width - 1, width - 1, height - 1, height - 1), mode="reflect"))
    size = (count, channels, 2 * (height + 2 * CONTEXT), 2 * (width + 2 * CONTEXT))
    half_in, half_out = (images.new_tensor([w / 2, h / 2]) for h, w in (fine.shape[2:], size[2:]))
    moved = 2 * offset + CENTRE - CENTRE * matrix.sum(2)
    theta = torch.cat([matrix * half_out, moved[:, :, None]], dim=2) / half_in[:, None]
    grid = F.affine_grid(theta, list(size), align_corners=False)
    fine = F.grid_sample(fine, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return _coarser(fine)[:, :, CONTEXT:-CONTEXT, CONTEXT:-CONTEXT]


def _filters(images: Tensor) -> tuple[Tensor, Tensor]:
    """(C, 1, 12, 1) and (C, 1, 1, 12)."""
    taps = images.new_tensor(SYM6).expand(images.shape[1], 1, 1, -1)
    return taps.mT, taps


def _finer(images: Tensor) -> Tensor:
    """To twice as many pixels a side."""
    down, across = _filters(images)
    groups = images.shape[1]
    images = F.conv_transpose2d(images, down, stride=(2, 1), padding=(OVERLAP, 0), groups=groups)
    return F.conv_transpose2d(images, across, stride=(1, 2), padding=(0, OVERLAP), groups=groups)


def _coarser(images: Tensor) -> Tensor:
    """Back to half as many, by the same filter turned around."""
    down, across = _filters(images)
    groups = images.shape[1]
    images = F.conv2d(images, down, stride=(2, 1), padding=(OVERLAP, 0), groups=groups)
    return F.conv2d(images, across, stride=(1, 2), padding=(0, OVERLAP), groups=groups)
