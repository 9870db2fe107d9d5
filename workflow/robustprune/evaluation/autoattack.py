"""The standard AutoAttack (Croce & Hein 2020, https://arxiv.org/abs/2003.01690), by the package, one attack at a time.

The package's own resuming does not work, so each of the four attacks is a pass of its own over the images that are
still right, and what a pass found is kept. The attacks, their order and their settings are the package's.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from robustprune.attacks.inputs import inputs_at
from robustprune.attacks.margin_loss import check_gradient, cw_objective
from robustprune.core.errors import UserError
from robustprune.core.randomness import derive_seed
from robustprune.core.rows import collect
from robustprune.evaluation.attack import attack
from robustprune.evaluation.checks import zero_gradients
from robustprune.evaluation.outcome import is_right

if TYPE_CHECKING:
    from robustprune.core.rows import Columns, RowPass
    from robustprune.core.settings import ThreatModel
    from robustprune.evaluation.robustness import Target

DEFINITION = {"evaluation.autoattack": 1}

STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
TARGETS = 9  # classes that the targeted attacks try, or all others where there are fewer
DLR_CLASSES = 4  # classes that the targeted loss needs at the least


# Of the standard AutoAttack: FAB's 9 targets x 100 steps and Square's 5,000 queries forward; the clean pass, APGD's
# (1 + 9) x 101 steps and FAB's 9 x 100 with a gradient.
@attack(
    "autoattack",
    words="AutoAttack",
    breakers=("apgd-ce", "apgd-t", "fab-t", "square"),
    together=250,
    passes=(5900, 1911),
)
def measure_under_autoattack(target: Target) -> RowPass:
    """Return the pass that does one attack after the other over the images that those before have left right."""
    if target.imported:
        check_gradient(target.model, *target.first(), origin=target.spec.model)
    return partial(_all_four, target)


def _all_four(target: Target, rows: range | None = None) -> Iterator[Columns]:
    before = collect(target.each(partial(_before, target), "clean", rows))
    right, broken_by = before["clean"].copy(), np.full(len(before["clean"]), -1, dtype=np.int8)
    for position, name in enumerate(STANDARD):
        one = partial(_one_attack, target, name, right, rows.start if rows else 0)
        left = collect(target.each(one, name, rows))["right"]
        broken_by[right & ~left] = position
        right &= left
    return iter([{**before, "right": right, "broken_by": broken_by}])


def _before(target: Target, start: int, stop: int) -> Columns:
    """Which images are right clean, and at which the margin has no gradient."""
    (images, labels), ids = target.images(start, stop), torch.from_numpy(target.rows[start:stop])
    spec, objective = target.spec, partial(cw_objective, labels=labels, kappa=inf)
    assert spec.threat is not None
    zero = zero_gradients(target.model, images, ids, objective=objective, threat=spec.threat, seed=spec.seed)
    return {"clean": is_right(target.model, images, labels).cpu().numpy(), "zero_gradient": zero.cpu().numpy()}


def _one_attack(target: Target, name: str, right: npt.NDArray[np.bool_], first: int, start: int, stop: int) -> Columns:
    """Attack those rows from ``start`` on that are right; ``right`` begins at row ``first``."""
    left = right[start - first : stop - first].copy()
    images, labels = inputs_at(target.pool, target.rows[start:stop][left], target.job.device)
    chunk, threat = start // (target.spec.shared_rows.together or 1), target.spec.threat
    assert threat is not None
    still = withstands_one(name, target.model, images, labels, chunk, threat=threat, seed=target.spec.seed)
    left[left] = still.cpu().numpy()
    return {"right": left}


def withstands_one(
    name: str, model: nn.Module, images: Tensor, labels: Tensor, chunk: int, *, threat: ThreatModel, seed: int
) -> Tensor:
    """Attack images that are still right by one of the four.

    Args:
        name: one of STANDARD.
        model: gives (N, K) logits, in eval mode.
        images: (N, C, H, W) float32 in [0, 1]: those of a chunk that the attacks before have left right.
        labels: (N,) int64.
        chunk: number of the chunk, which makes its seed.
        threat: norm and largest perturbation.
        seed: the stage's seed.

    Returns:
        (N,) bool, true where the attack did not change the right prediction.

    Raises:
        UserError: when the model has fewer than four classes.
    """
    if not len(images):
        return torch.zeros(0, dtype=torch.bool, device=images.device)
    attack = AutoAttack(
        model,
        device=images.device,
        eps=float(threat.epsilon),
        norm=threat.norm,
        seed=derive_seed(seed, "autoattack", chunk),
        version="standard",
    )
    attack.attacks_to_run = [name]
    targets = min(TARGETS, _classes(model, images) - 1)
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
    with _globals_kept(images.device):
        attacked, _ = attack.run_standard_evaluation(images, labels, batch_size=len(images))
    return is_right(model, attacked, labels)


@contextmanager
def _globals_kept(device: torch.device) -> Iterator[None]:
    """AutoAttack seeds the global generators and switches debuggers and coverage off; put both back."""
    trace = sys.gettrace()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        sys.settrace(trace)


@torch.no_grad()
def _classes(model: nn.Module, images: Tensor) -> int:
    classes = int(model(images[:1]).shape[1])
    if classes < DLR_CLASSES:
        raise UserError(f"the model has {classes} classes, but AutoAttack's targeted loss needs {DLR_CLASSES} or more")
    return classes


class _OncePerKind(logging.Filter):
    """Passes each kind of warning once, whatever numbers are in it; AutoAttack would repeat them for every chunk."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        kind = re.sub(r"\d+", "", record.getMessage())
        passes = record.levelno >= logging.WARNING and kind not in self._seen
        self._seen.add(kind)
        return passes


logging.getLogger("auto-attack").addFilter(_OncePerKind())
