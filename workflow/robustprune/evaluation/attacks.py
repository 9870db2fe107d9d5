"""Which images a model still gets right under each attack."""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from robustprune.attacks.margin_loss import cw_objective
from robustprune.attacks.pgd import pgd_from_own_starts
from robustprune.errors import UserError
from robustprune.randomness import derive_seed
from robustprune.settings import EvaluationSettings, ThreatModel

DEFINITION = 1

AUTOATTACK_CHUNK = 250  # images attacked together, whatever the machine: AutoAttack's draws are made for a whole batch
AUTOATTACK_TARGETS = 9  # classes that its targeted attacks try, or all others where there are fewer
DLR_CLASSES = 4  # classes that its targeted loss needs at the least


@torch.no_grad()
def is_right(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """(N,) bool: whether the largest logit is the label's."""
    logits: Tensor = model(images)
    return logits.argmax(1) == labels


def withstands_pgd(
    model: nn.Module, images: Tensor, labels: Tensor, ids: Tensor, *, threat: ThreatModel, settings: EvaluationSettings
) -> Tensor:
    """Attack each image by PGD on the CW margin, from one random start of its own, and look at the last point.

    This is the "CW" robustness of Wang et al. (2023) and of PUMA (facts 7).

    Args:
        model: gives (N, K) logits, in eval mode.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64.
        ids: (N,) int64 ids of the samples, which seed their starts.
        threat: norm and largest perturbation.
        settings: steps, step size, seed.

    Returns:
        (N,) bool, true where the attacked image is classified rightly.
    """
    attacked = pgd_from_own_starts(
        model,
        images,
        ids,
        threat=threat,
        steps=settings.pgd_steps,
        step_size=float(settings.step_size),
        objective=partial(cw_objective, labels=labels),
        seed=settings.seed,
        purpose="pgd start",
    )
    return is_right(model, attacked, labels)


def withstands_autoattack(
    model: nn.Module, images: Tensor, labels: Tensor, chunk: int, *, threat: ThreatModel, seed: int
) -> Tensor:
    """Attack a chunk of images by the standard AutoAttack (Croce & Hein 2020, https://arxiv.org/abs/2003.01690).

    Args:
        model: gives (N, K) logits, in eval mode.
        images: (N, C, H, W) float32 in [0, 1], at most AUTOATTACK_CHUNK.
        labels: (N,) int64.
        chunk: number of the chunk, which makes its seed.
        threat: norm and largest perturbation.
        seed: the stage's seed.

    Returns:
        (N,) bool, true where no attack changed the right prediction.

    Raises:
        UserError: when the model has fewer than four classes.
    """
    attack = AutoAttack(
        model,
        device=images.device,
        eps=float(threat.epsilon),
        norm=threat.norm,
        seed=derive_seed(seed, "autoattack", chunk),
        version="standard",
    )
    targets = min(AUTOATTACK_TARGETS, _classes(model, images) - 1)
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
    with _globals_kept(images.device):
        attacked, _ = attack.run_standard_evaluation(images, labels, batch_size=AUTOATTACK_CHUNK)
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
