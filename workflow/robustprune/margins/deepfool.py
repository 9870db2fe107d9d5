"""DeepFool: step after step to the nearest boundary, as the boundaries look linearised.

Moosavi-Dezfooli et al. (2016), https://arxiv.org/abs/1511.04599, Algorithm 2 and section 3.3 for Linf. The boundary is
chosen anew in every step, but only classes that can be the nearest are differentiated. The distance to class k is
gap_k / size_k, the lead over its logit by the dual norm of the lead's gradient; the gaps are known without a gradient,
and a bound on the size bounds the distance from below. A size is taken to be at most ``slope_ratio`` times what the
image's walk last saw of that class, or, where it saw nothing, the largest it saw of any. Classes are taken by rising
bound until no bound is below the best distance. With ``slope_ratio`` and ``candidates`` null every class is
differentiated in every step, as in the paper.
"""

import torch
from torch import Tensor, nn

from robustprune.attacks.norms import NormGeometry
from robustprune.margins.walk import Crossing, Walk, logits_at, per_pixel
from robustprune.settings import DeepFoolSettings

DEFINITION = 2

STEP_FLOOR = 1e-4  # added to every step, as in the authors' code, so that a point on the boundary leaves it
STEEPEST = 1e12  # a gradient larger than any: bounds made with it are in the order of the gaps, and exclude nothing


class DeepFool(Walk):
    """The walks of a chunk of images.

    Beside its point, each keeps its way so far without overshoot and clipping, (N, C, H, W), the logits where it is,
    (N, K), the dual norms of the gradients last seen, (N, K), 0 where none was, and its target where that is fixed,
    (N,), -1 where none is.

    Args:
        model: gives (N, K) logits.
        images: (N, C, H, W) float32 in [0, 1].
        logits: (N, K) at the images.
        crossing: which boundary each is led over.
        settings: steps, overshoot and candidates.
        norm: the norm of the steps.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        logits: Tensor,
        crossing: Crossing,
        *,
        settings: DeepFoolSettings,
        norm: NormGeometry,
    ) -> None:
        super().__init__(model, images, logits, crossing, max_steps=settings.max_steps)
        self.images, self.settings, self.norm = images, settings, norm
        self.logits, self.sizes, self.travelled = logits.clone(), torch.zeros_like(logits), torch.zeros_like(images)
        self.targets = torch.full_like(crossing.classes, -1)

    def advance(self, rows: Tensor) -> Tensor:
        """One step; the logits after it tell whether it crossed, and are what the next one is chosen by."""
        travelled = self.travelled[rows].add_(self._way(rows))
        points = self.images[rows].add_(travelled, alpha=1 + self.settings.overshoot).clamp_(0, 1)
        logits = logits_at(self.model, points)
        self.travelled[rows], self.points[rows], self.logits[rows] = travelled, points, logits
        self.gaps[rows] = self.crossing[rows].gap(logits)
        self.steps[rows] += 1
        return self.finished(rows)

    def _way(self, rows: Tensor) -> Tensor:
        """(n, C, H, W): the way to the nearest linearised boundary, longer by STEP_FLOOR; 0 where all are flat."""
        points, crossing, sizes = self.points[rows], self.crossing[rows], self.sizes[rows]
        gaps = only(class_gaps(self.logits[rows], crossing, self.settings.candidates), self.targets[rows])
        distance, slope = torch.full_like(gaps[:, 0], torch.inf), torch.zeros_like(points)
        target = torch.full_like(rows, -1)
        while True:
            bound, nearest = lower_bounds(gaps, sizes, self.settings.slope_ratio).min(1)
            active = (bound < distance).nonzero().squeeze(1)
            if len(active) == 0:
                break
            others = nearest[active]
            gap, gradient = gap_and_gradient(self.model, points[active], others, crossing[active])
            size = self.norm.dual_size(gradient)
            sizes[active, others], gaps[active, others] = size, torch.inf
            found = gap / size
            nearer = found < distance[active]  # never true for a gradient of 0: x / 0 is infinite, 0 / 0 is NaN
            closer = active[nearer]
            distance[closer], slope[closer], target[closer] = found[nearer], gradient[nearer], others[nearer]
        self.sizes[rows] = sizes
        if self.settings.target == "fixed":
            target = target.where(target >= 0, self.targets[rows])  # all are flat here, but were not before
            self.targets[rows] = target.where(~crossing.into, -1)  # into a class there is no other target
        length = distance.where(distance.isfinite(), 0) + STEP_FLOOR
        return self.norm.steepest(slope).mul_(-per_pixel(length, points))


def class_gaps(logits: Tensor, crossing: Crossing, candidates: int | None) -> Tensor:
    """(n, K): the lead that has to fall for each other class; infinite for classes that are not considered.

    Out of a class, its lead over each of the others, or over the ``candidates`` largest of them. Into a class, the lead
    of the best other alone: no boundary to another one is the class's own.
    """
    others = logits.scatter(1, crossing.classes[:, None], -torch.inf)
    own = logits.gather(1, crossing.classes[:, None])
    count = min(candidates or logits.shape[1], logits.shape[1] - 1)
    ranked = others.argsort(dim=1, descending=True, stable=True)[:, :count]
    leads = own - others.gather(1, ranked)
    into = torch.full_like(leads, torch.inf)
    into[:, 0] = -leads[:, 0]
    kept = torch.where(crossing.into[:, None], into, leads)
    return torch.full_like(logits, torch.inf).scatter(1, ranked, kept)


def only(gaps: Tensor, targets: Tensor) -> Tensor:
    """(n, K): the gap of the target alone, where there is one: (n,) classes, -1 for none."""
    chosen = targets.clamp(min=0)[:, None]
    alone = torch.full_like(gaps, torch.inf).scatter(1, chosen, gaps.gather(1, chosen))
    return torch.where(targets[:, None] < 0, gaps, alone)


def lower_bounds(gaps: Tensor, sizes: Tensor, slope_ratio: float | None) -> Tensor:
    """(n, K): how near each class can be.

    Args:
        gaps: (n, K), infinite for classes that are out of the question.
        sizes: (n, K) dual norms of the gradients last seen, 0 where none was.
        slope_ratio: how many times larger they can be; null for without limit.
    """
    if slope_ratio is None:
        return gaps / STEEPEST
    assumed = sizes.where(sizes > 0, sizes.amax(1, keepdim=True)) * slope_ratio
    return gaps / assumed.where(assumed > 0, STEEPEST)


def gap_and_gradient(model: nn.Module, points: Tensor, others: Tensor, crossing: Crossing) -> tuple[Tensor, Tensor]:
    """(n,) the lead that has to fall, between the crossing's class and the other, and its gradient, (n, C, H, W)."""
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        logits = model(points).float()
        lead = (logits.gather(1, crossing.classes[:, None]) - logits.gather(1, others[:, None])).squeeze(1)
        gap = torch.where(crossing.into, -lead, lead)
        (gradient,) = torch.autograd.grad(gap.sum(), points)
    return gap.detach(), gradient
