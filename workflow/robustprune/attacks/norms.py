"""The geometry of a norm: sizes, steepest steps, projections, random starts; each sample has its own radius."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

DEFINITION = {"attacks.norms": 1}

EPS_DIVISION = torch.finfo(torch.float32).tiny  # the smallest divisor: zero over it is zero, not NaN


def per_pixel(values: Tensor, like: Tensor) -> Tensor:
    """(N,) to (N, 1, 1, 1), to go with ``like`` of shape (N, C, H, W)."""
    return values.view(-1, *[1] * (like.ndim - 1))


class NormGeometry(Protocol):
    """Geometry of the norm that an attack is bounded in.

    All perturbations and gradients are (N, ...) float32, all radii and sizes (N,) float32 in units of the pixel range.
    """

    @property
    def name(self) -> Literal["Linf", "L2"]:
        """The norm's name in the settings."""

    @property
    def draw(self) -> Literal["uniform", "normal"]:
        """The draw, as in ``sample_noise.per_sample``, that ``random_start`` takes."""

    def size(self, delta: Tensor) -> Tensor:
        """(N,): the norm of each perturbation."""

    def dual_size(self, gradient: Tensor) -> Tensor:
        """(N,): the dual norm of each gradient, how fast a linear function rises along ``steepest``."""

    def steepest(self, gradient: Tensor) -> Tensor:
        """The perturbation of norm 1 along which a linear function rises fastest; 0 for a gradient of 0."""

    def project(self, delta: Tensor, radius: Tensor) -> Tensor:
        """The nearest perturbation (in L2) whose norm is at most the radius."""

    def random_start(self, draw: Tensor, radius: Tensor) -> Tensor:
        """A random perturbation within the radius, made of independent draws of the kind ``draw``."""


class LinfNorm:
    """The largest absolute change of a pixel."""

    name: Literal["Linf"] = "Linf"
    draw: Literal["uniform"] = "uniform"

    def size(self, delta: Tensor) -> Tensor:
        """(N,): the largest absolute value."""
        return delta.abs().flatten(1).amax(1)

    def dual_size(self, gradient: Tensor) -> Tensor:
        """(N,): the sum of absolute values."""
        return gradient.abs().flatten(1).sum(1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The sign."""
        return gradient.sign()

    def project(self, delta: Tensor, radius: Tensor) -> Tensor:
        """Every pixel clipped to [-radius, radius]."""
        bound = per_pixel(radius, delta)
        return delta.clamp(-bound, bound)

    def random_start(self, draw: Tensor, radius: Tensor) -> Tensor:
        """Uniform in the cube: ``draw`` on [-1, 1), stretched to the radius."""
        return draw * per_pixel(radius, draw)


class L2Norm:
    """The Euclidean length."""

    name: Literal["L2"] = "L2"
    draw: Literal["normal"] = "normal"

    def size(self, delta: Tensor) -> Tensor:
        """(N,): the root of the sum of squares."""
        return delta.flatten(1).square().sum(1).sqrt()

    def dual_size(self, gradient: Tensor) -> Tensor:
        """(N,): the same; this norm is its own dual."""
        return self.size(gradient)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The gradient at length 1; scaled to a largest entry of 1 before, as squares of tiny entries are 0."""
        largest = gradient.abs().flatten(1).amax(1).clamp(min=EPS_DIVISION)
        scaled = gradient / per_pixel(largest, gradient)
        return scaled / per_pixel(self.size(scaled).clamp(min=EPS_DIVISION), gradient)

    def project(self, delta: Tensor, radius: Tensor) -> Tensor:
        """Perturbations that are too long, shortened to the radius."""
        shrink = (radius / self.size(delta).clamp(min=EPS_DIVISION)).clamp(max=1)
        return delta * per_pixel(shrink, delta)

    def random_start(self, draw: Tensor, radius: Tensor) -> Tensor:
        """Uniform on the sphere, as AutoAttack starts: a normal ``draw``, brought to the length of the radius."""
        return self.steepest(draw) * per_pixel(radius, draw)


_NORMS: dict[str, NormGeometry] = {"Linf": LinfNorm(), "L2": L2Norm()}


def norm_named(name: str) -> NormGeometry:
    """The geometry of ``Linf`` or ``L2``. Raises ValueError for any other name."""
    if name not in _NORMS:
        raise ValueError(f"norm = {name!r} is not one of {', '.join(_NORMS)}")
    return _NORMS[name]
