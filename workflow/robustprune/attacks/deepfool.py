"""DeepFool: step after step to the nearest boundary, as the boundaries look linearised.

Moosavi-Dezfooli et al. (2016), https://arxiv.org/abs/1511.04599, Algorithm 2 and section 3.3 for Linf. The boundary is
chosen anew in every step, but only classes that can be the nearest are differentiated. The distance to class k is
gap_k / size_k, the lead over its logit by the dual norm of the lead's gradient; the gaps are known without a gradient,
and a bound on the size bounds the distance from below. A size is taken to be at most ``slope_ratio`` times what the
image's walk last saw of that class, or, where it saw nothing, the largest it saw of any. Classes are taken by rising
bound until no bound is below the best distance. That is a heuristic: a class can be steeper, and nearer, than it is
taken to be; ``scores.margin`` measures how often. With ``slope_ratio`` and ``candidates`` null every class is
differentiated in every step, as in the paper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustprune.attacks.norms import NormGeometry, per_pixel
from robustprune.attacks.walk import Crossing, Walk

if TYPE_CHECKING:
    from robustprune.attacks.deepfool_settings import DeepFoolSettings
    from robustprune.networks.architecture import Classifier

DEFINITION = {"margins.deepfool": 2}

STEP_FLOOR = 1e-4  # added to every step, as in the authors' code, so that a point on the boundary leaves it
FEW = 0.6  # of a batch's points: the way there and back through so many takes as long as the way back through all
STEEPEST = 1e12  # a gradient larger than any: bounds made with it are in the order of the gaps, and exclude nothing


class DeepFool(Walk):
    """The walks of a chunk of images.

    An image looks at one class at a time, in a batch with images that stand elsewhere. Beside its point, each keeps:

    - travelled, (N, C, H, W): its way so far, without overshoot and clipping;
    - sizes, (N, K): the dual norms of the gradients last seen, 0 where none was;
    - leads, (N, K): those that have to fall, infinite for classes seen from this point and those out of the question;
    - distance, (N,), slope, (N, C, H, W), and target, (N,): of the nearest boundary seen from this point;
    - fixed, (N,): its target for good, -1 where none is;
    - arrived, (N,) bool: whether nothing was seen from this point yet.

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
        model: Classifier,
        images: Tensor,
        logits: Tensor,
        crossing: Crossing,
        *,
        settings: DeepFoolSettings,
        norm: NormGeometry,
    ) -> None:
        super().__init__(model, images, logits, crossing, max_steps=settings.max_steps)
        self.images, self.settings, self.norm = images, settings, norm
        self.sizes, self.leads, self.distance = torch.zeros_like(logits), torch.zeros_like(logits), self.gaps.clone()
        self.travelled, self.slope = torch.zeros_like(images), torch.zeros_like(images)
        self.target, self.fixed = torch.full_like(crossing.classes, -1), torch.full_like(crossing.classes, -1)
        self.arrived = torch.ones_like(crossing.into)

    def advance(self, rows: Tensor) -> Tensor:
        """Look at one class more, at further ones while most images want to, and step where no other can be nearer."""
        here = Slopes(self.model, self.points[rows], self.crossing[rows])
        self._arrive(rows, here)
        finished = self.finished(rows)
        going = (~finished).nonzero().squeeze(1)
        while len(going):
            self._look(rows[going], here, going)
            undecided = self._bounds(rows[going]).amin(1) < self.distance[rows[going]]
            self._step(rows[going[~undecided]])
            going = going[undecided]
            if here.are_few(going):
                break  # they go on in the next batch
        return finished

    def _arrive(self, rows: Tensor, here: Slopes) -> None:
        """Begin anew where nothing was seen yet."""
        arrived = self.arrived[rows].nonzero().squeeze(1)
        rows, crossing, logits = rows[arrived], here.crossing[arrived], here.logits[arrived]
        self.gaps[rows] = crossing.gap(logits)
        self.leads[rows] = class_gaps(logits, crossing, self.settings.candidates, self.fixed[rows])
        self.distance[rows], self.target[rows] = torch.inf, -1
        self.arrived[rows] = False

    def _bounds(self, rows: Tensor) -> Tensor:
        return lower_bounds(self.leads[rows], self.sizes[rows], self.settings.slope_ratio)

    def _look(self, rows: Tensor, here: Slopes, places: Tensor) -> None:
        """At the class that can be the nearest of all; ``places`` are those of ``rows`` in ``here``."""
        others = self._bounds(rows).argmin(1)
        slope = here.slope(places, others)
        size = self.norm.dual_size(slope)
        distance = self.leads[rows, others] / size
        self.sizes[rows, others], self.leads[rows, others] = size, torch.inf
        nearer = distance < self.distance[rows]  # never true for a gradient of 0: x / 0 is infinite, 0 / 0 is NaN
        rows, distance, slope = rows[nearer], distance[nearer], slope[nearer]
        self.distance[rows], self.slope[rows], self.target[rows] = distance, slope, others[nearer]

    def _step(self, rows: Tensor) -> None:
        """To the nearest boundary, and by STEP_FLOOR beyond; nowhere where all are flat."""
        if self.settings.target == "fixed":
            target = self.target[rows].where(self.target[rows] >= 0, self.fixed[rows])  # flat here, but not before
            self.fixed[rows] = target.where(~self.crossing.into[rows], -1)  # into a class there is no other target
        distance = self.distance[rows]
        length = (distance + STEP_FLOOR).where(distance.isfinite(), 0)  # the slope is an older one where all are flat
        way = self.norm.steepest(self.slope[rows])
        travelled = self.travelled[rows].sub_(way.mul_(per_pixel(length, way)))
        self.travelled[rows] = travelled
        points = self.images[rows].add_(travelled, alpha=1 + self.settings.overshoot)
        self.points[rows] = points.clamp_(0, 1) if self.settings.box else points
        self.steps[rows] += 1
        self.arrived[rows] = True


class Slopes:
    """The model at some points, and how the lead that has to fall changes there.

    Attributes:
        points: (n, C, H, W) float32 in [0, 1].
        crossing: their crossings.
        logits: (n, K) float32.
    """

    def __init__(self, model: Classifier, points: Tensor, crossing: Crossing) -> None:
        self.points, self.crossing, self._model = points, crossing, model
        self._inputs, self._outputs = _with_graph(model, points)
        self.logits = self._outputs.detach()

    def are_few(self, chosen: Tensor) -> bool:
        """Return True if a pass through the chosen points alone is faster than the way back through all."""
        return len(chosen) < FEW * len(self.points)

    def slope(self, chosen: Tensor, others: Tensor) -> Tensor:
        """(m, C, H, W): the gradient of the lead between the crossing's class and another, at each chosen point.

        By the way back through all points, or, for fewer than FEW of them, there and back through them alone.

        Args:
            chosen: (m,) int64 places among the points.
            others: (m,) int64 classes.
        """
        crossing = self.crossing[chosen]
        if self.are_few(chosen):
            inputs, outputs = _with_graph(self._model, self.points[chosen])
            return _slope(inputs, outputs, others, crossing)
        with torch.enable_grad():
            outputs = self._outputs[chosen]
        return _slope(self._inputs, outputs, others, crossing)[chosen]


def _with_graph(model: Classifier, points: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        inputs = points.detach().requires_grad_()
        return inputs, model(inputs).float()


def _slope(inputs: Tensor, logits: Tensor, others: Tensor, crossing: Crossing) -> Tensor:
    """The gradient by the inputs of the leads of (n, K) logits, each of which is to fall."""
    with torch.enable_grad():
        lead = (logits.gather(1, crossing.classes[:, None]) - logits.gather(1, others[:, None])).squeeze(1)
        gap = torch.where(crossing.into, -lead, lead)
        (gradient,) = torch.autograd.grad(gap.sum(), inputs, retain_graph=True)
    return gradient


def class_gaps(logits: Tensor, crossing: Crossing, candidates: int | None, fixed: Tensor) -> Tensor:
    """(n, K): the lead that has to fall for each other class; infinite for classes that are not considered.

    Out of a class, its lead over each of the others, over the ``candidates`` largest of them, or over the one that is
    fixed, however small it has become. Into a class, the lead of the best other alone: no boundary to another one is
    the class's own.

    Args:
        logits: (n, K).
        crossing: out of which class each is led, or into which.
        candidates: number of classes; null for all.
        fixed: (n,) int64, the class that is fixed, -1 for none; none into a class.
    """
    others = logits.scatter(1, crossing.classes[:, None], -torch.inf)
    own = logits.gather(1, crossing.classes[:, None])
    count = min(candidates or logits.shape[1], logits.shape[1] - 1)
    ranked = others.argsort(dim=1, descending=True, stable=True)[:, :count]
    leads = own - others.gather(1, ranked)
    into = torch.full_like(leads, torch.inf)
    into[:, 0] = -leads[:, 0]
    kept = torch.where(crossing.into[:, None], into, leads)
    none = torch.full_like(logits, torch.inf)
    target = fixed.clamp(min=0)[:, None]
    alone = none.scatter(1, target, own - logits.gather(1, target))
    return torch.where(fixed[:, None] < 0, none.scatter(1, ranked, kept), alone)


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
