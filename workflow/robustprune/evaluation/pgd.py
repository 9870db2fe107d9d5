"""PGD as an evaluation: a fixed number of steps, from one random start or several, on one of two objectives."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.attacks.margin_loss import check_gradient, cw_objective
from robustprune.attacks.pgd import Objective, pgd_from_own_starts
from robustprune.evaluation.attack import attack
from robustprune.evaluation.checks import zero_gradients
from robustprune.evaluation.outcome import is_right

if TYPE_CHECKING:
    from robustprune.core.rows import Columns, RowPass
    from robustprune.core.settings import ThreatModel
    from robustprune.evaluation.robustness import Target
    from robustprune.evaluation.settings import Pgd

DEFINITION = {"evaluation.pgd": 1}


def withstands_pgd(
    model: nn.Module, images: Tensor, labels: Tensor, ids: Tensor, *, threat: ThreatModel, settings: Pgd, seed: int
) -> Tensor:
    """Attack each image by PGD and look at the last point; where it is still right, again from the next start.

    With the margin, 40 steps and one start this is the "CW" robustness of Wang et al. (2023) and of PUMA;
    with the cross-entropy, 50 steps and 10 starts the PGD-50-10 of Wong et al. (2020), who go by the start of the
    highest loss, where here an image has to withstand them all.

    Args:
        model: gives (N, K) logits, in eval mode.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64.
        ids: (N,) int64 ids of the samples, which seed their starts.
        threat: norm and largest perturbation.
        settings: objective, steps, restarts.
        seed: the stage's seed.

    Returns:
        (N,) bool, true where no attacked image is misclassified. As Wang et al. do, the attacked image alone is looked
        at; the random start may right one that is wrong clean.
    """
    right = torch.ones(len(images), dtype=torch.bool, device=images.device)
    for restart in range(settings.restarts):
        left = right.nonzero()[:, 0]
        if not len(left):
            break
        attacked = pgd_from_own_starts(
            model,
            images[left],
            ids[left.cpu()],
            threat=threat,
            steps=settings.steps,
            step_size=float(settings.step * threat.epsilon),
            objective=objective_of(settings, labels[left]),
            seed=seed,
            purpose=f"pgd start {restart}" if restart else "pgd start",
        )
        right[left] = is_right(model, attacked, labels[left])
    return right


def objective_of(settings: Pgd, labels: Tensor) -> Objective:
    """Return what the attack makes large for images of these labels."""
    if settings.objective == "margin":
        return partial(cw_objective, labels=labels)
    return partial(F.cross_entropy, target=labels, reduction="none")


@attack("cw", words="PGD on the CW margin")
@attack("pgd", words="PGD")
@attack("pgd_50_10", words="PGD-50-10")
def measure_under_pgd(target: Target) -> RowPass:
    """Return the pass that attacks images by PGD, with the settings of the target's stage."""
    spec, model = target.spec, target.model
    assert spec.pgd is not None
    assert spec.threat is not None
    settings, threat = spec.pgd, spec.threat
    if target.imported:
        check_gradient(model, *target.first(), origin=spec.model)

    def compute(start: int, stop: int) -> Columns:
        (images, labels), ids = target.images(start, stop), torch.from_numpy(target.rows[start:stop])
        objective = objective_of(settings, labels)
        if settings.objective == "margin":  # without the cap at which the attack is content
            objective = partial(cw_objective, labels=labels, kappa=inf)
        columns = {
            "clean": is_right(model, images, labels),
            "zero_gradient": zero_gradients(model, images, ids, objective=objective, threat=threat, seed=spec.seed),
            "right": withstands_pgd(model, images, labels, ids, threat=threat, settings=settings, seed=spec.seed),
        }
        return {name: values.cpu().numpy() for name, values in columns.items()}

    return partial(target.each, compute, "attack")
