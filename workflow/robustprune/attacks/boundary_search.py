"""PUMA's faster margin (Maroto et al., Algorithm 1): basic iterative steps until the boundary is crossed.

One gradient a step, however many classes there are. The algorithm as printed would fail. What is done instead:

- a misclassified image is led on until it is classified as its label, not until its prediction changes: a third class
  tells nothing of the way back (papers.md, P6);
- the segment is halved in shares of its length, not at absolute margins, which do not lie on it (P5);
- points stay in the pixel range; an image that has not crossed after ``max_steps`` is censored: its margin is infinite
  with its sign, and it has not converged (P7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustprune.attacks.norms import NormGeometry, per_pixel
from robustprune.attacks.walk import Crossing, Walk

if TYPE_CHECKING:
    from robustprune.attacks.boundary_settings import BoundarySearchSettings
    from robustprune.networks.architecture import Classifier

DEFINITION = {"margins.boundary_search": 1}


class BoundarySearch(Walk):
    """Steps of one length, up the cross-entropy of the class to get out of, or down that of the class to get into.

    Args:
        model: gives (N, K) logits.
        images: (N, C, H, W) float32 in [0, 1].
        logits: (N, K) at the images.
        crossing: which boundary each is led over.
        settings: number and length of the steps.
        norm: the norm of the steps; the paper's is Linf.
    """

    def __init__(
        self,
        model: Classifier,
        images: Tensor,
        logits: Tensor,
        crossing: Crossing,
        *,
        settings: BoundarySearchSettings,
        norm: NormGeometry,
    ) -> None:
        super().__init__(model, images, logits, crossing, max_steps=settings.max_steps)
        self.step_size, self.norm = float(settings.step_size), norm

    def advance(self, rows: Tensor) -> Tensor:
        """One step of those not beyond yet. One forward pass tells both: whether the last crossed, and where to go."""
        points, crossing = self.points[rows], self.crossing[rows]
        self.gaps[rows], slope = gap_and_slope(self.model, points, crossing)
        finished = self.finished(rows)
        length = torch.where(crossing.into, -self.step_size, self.step_size).where(~finished, 0)
        self.points[rows] = self.norm.steepest(slope).mul_(per_pixel(length, points)).add_(points).clamp_(0, 1)
        self.steps[rows] += ~finished
        return finished


def gap_and_slope(model: Classifier, points: Tensor, crossing: Crossing) -> tuple[Tensor, Tensor]:
    """(n,) gaps, and (n, C, H, W) gradients along those of the cross-entropy of the crossings' classes.

    With u = logsumexp of the other logits - the class's logit, the cross-entropy is log(1 + exp(u)). Its gradient is
    that of u times sigmoid(u), a factor that is 0 in float32 for very confident images, and that a normalised step
    does not see otherwise. So u is what is differentiated.
    """
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        logits = model(points).float()
        own = logits.gather(1, crossing.classes[:, None]).squeeze(1)
        others = logits.scatter(1, crossing.classes[:, None], -torch.inf).logsumexp(1)
        (slope,) = torch.autograd.grad((others - own).sum(), points)
    return crossing.gap(logits.detach()), slope
